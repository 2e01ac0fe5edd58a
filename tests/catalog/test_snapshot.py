"""URI templates as patterns."""

import pytest

from gateway_core.catalog.snapshot import template_pattern


@pytest.mark.parametrize(
    ("template", "uri", "matches"),
    [
        ("file:///{name}", "file:///a.txt", True),
        ("file:///{name}", "file:///a/b.txt", False),
        ("file:///{+path}", "file:///a/b.txt", True),
        ("db://{table}/{id}", "db://users/7", True),
        ("db://{table}/{id}", "db://users", False),
        ("find://x{?q,lang}", "find://x?q=1&lang=en", True),
        ("find://x{?q}", "find://x", True),
        ("a.b://{x}", "aXb://y", False),
    ],
)
def test_a_template_recognises_its_uris(template: str, uri: str, matches: bool) -> None:
    pattern = template_pattern(template)
    assert pattern is not None
    assert bool(pattern.fullmatch(uri)) is matches


@pytest.mark.parametrize("template", ["x://{", "x://{}", "x://{a"])
def test_a_malformed_template_matches_nothing(template: str) -> None:
    assert template_pattern(template) is None


def test_many_wildcards_cost_no_backtracking() -> None:
    pattern = template_pattern("x://" + "{+a}" * 30 + "!")
    assert pattern is not None
    assert not pattern.fullmatch("x://" + "a" * 50_000)
