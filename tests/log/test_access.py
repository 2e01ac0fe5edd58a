"""What a log line shows of a call."""

import pytest

from gateway_core.log import access


@pytest.mark.parametrize(
    ("method", "name", "shown"),
    [
        ("tools/call", "echo", "echo"),
        ("resources/read", "file:///a/b", "file:///a/b"),
        ("resources/read", "https://u:hush@host/p?token=hush#x", "https://***@host/p?…"),
        ("tasks/get", "hush", ""),
    ],
)
def test_the_name_of_a_call_is_shown_without_secrets(method, name, shown):
    assert access.shown_name(method, name) == shown


def test_the_members_of_a_call_name_what_it_asks_for():
    assert access.members("prompts/get", "p", "me", None) == {
        "method": "prompts/get",
        "prompt": "p",
        "principal": "me",
    }
    assert access.members("tools/list", "", "me", None) == {
        "method": "tools/list",
        "principal": "me",
    }


def test_a_session_is_shown_by_a_digest_of_its_id():
    first, again, other = (access.members("tools/list", "", "me", name)["session"] for name in ("abc", "abc", "abd"))
    assert first == again != other
    assert "abc" not in first


def test_the_line_of_a_call_names_its_generation_and_in_a_profile_that_too():
    assert access.completed({"exchange": "a"}, 2, "") == {"exchange": "a", "generation": 2}
    assert access.completed({"exchange": "a"}, 2, "desk") == {"exchange": "a", "generation": 2, "profile": "desk"}
