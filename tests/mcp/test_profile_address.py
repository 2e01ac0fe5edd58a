import pytest

from gateway_core.mcp.profile_address import profile_path, split_address


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/mcp", ("/mcp", None)),
        ("/mcp/p/support", ("/mcp", "support")),
        ("/mcp/p/support/", ("/mcp", "support")),
        ("/sse/p/a-b_1", ("/sse", "a-b_1")),
        ("/messages/p/x", ("/messages", "x")),
        ("/mcp/p/", ("/mcp/p/", None)),
        ("/mcp/p/..", ("/mcp/p/..", None)),
        ("/mcp/p/a/b", ("/mcp/p/a/b", None)),
        ("/mcp/p/a%2fb", ("/mcp/p/a%2fb", None)),
        ("/mcp/p/" + "x" * 65, ("/mcp/p/" + "x" * 65, None)),
        ("/p/support", ("/p/support", None)),
    ],
)
def test_an_address_names_at_most_one_profile(path: str, found: tuple[str, str | None]) -> None:
    assert split_address(path) == found


def test_the_path_of_a_profile_leads_back_to_it() -> None:
    assert profile_path("/mcp", None) == "/mcp"
    assert split_address(profile_path("/mcp", "support")) == ("/mcp", "support")
