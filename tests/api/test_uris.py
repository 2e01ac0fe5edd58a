"""A rule about URIs holds however an agent writes them."""

import pytest

from gateway_core.api.uris import UriGlobs, resolved

SECRETS = [
    "file:///srv/secret/b",
    "file:///srv/public/../secret/b",
    "file:///srv/public/%2e%2E/secret/b",
    "file:///srv/public%2F..%2fsecret%2fb",
    "file:///srv/public/..\\secret\\b",
    "file:///srv/public/%ff/../../secret/b",
    "file:///srv/./secret//b",
    "file:///srv/%73ecret/b",
    "file:///srv/sec\n\tret/b",
    " FILE:///srv/secret/b",
    "file://localhost/srv/secret/b",
    "file:/srv/secret/b",
    "file:////srv/secret/b",
]
PUBLIC = [
    "file:///srv/public/a",
    "file:///srv/public/a%20b/%E4%B8%AD/%25",
    "file:///srv/public/..a/.b/c..?x=../../secret",
    "file:///srv/public/%2A%3F%23",
    "file:///srv/public/",
    "file:///srv/public/a#upstream=docs",
]


@pytest.mark.parametrize("uri", SECRETS)
def test_no_way_of_writing_a_uri_gets_around_a_rule(uri: str) -> None:
    assert UriGlobs(["file:///srv/secret/*"]).perhaps_match(uri)
    assert not UriGlobs(["file:///srv/public/*", "file:/srv/public*"]).surely_match(uri)


@pytest.mark.parametrize("uri", PUBLIC)
def test_what_is_elsewhere_is_not_concerned(uri: str) -> None:
    assert UriGlobs(["file:///srv/public/*"]).surely_match(uri)
    assert UriGlobs([uri]).surely_match(uri), "also without wildcards"
    assert not UriGlobs(["file:///srv/secret/*"]).perhaps_match(uri)


@pytest.mark.parametrize("uri", SECRETS)
def test_a_uri_may_have_the_name_of_its_upstream_before_it(uri: str) -> None:
    assert UriGlobs(["docs:file:///srv/secret/*"]).perhaps_match(f"docs:{uri}")
    assert not UriGlobs(["other:file:///srv/secret/*"]).perhaps_match(f"docs:{uri}")
    assert not UriGlobs(["docs:file:///srv/public/*"]).surely_match(f"docs:{uri}")
    assert UriGlobs(["docs:file:///srv/public/*"]).surely_match("docs:file:///srv/public/a")


def test_the_host_matters_in_one_case_to_what_is_allowed_and_in_none_to_what_is_denied() -> None:
    globs = UriGlobs(["https://wiki.example/*"])
    assert globs.perhaps_match("https://WIKI.example/a")
    assert not globs.surely_match("https://WIKI.example/a")
    assert UriGlobs(["https://Wiki.example/*"]).perhaps_match("https://wiki.EXAMPLE/a")
    assert UriGlobs(["*Lab1/*"]).surely_match("memo://Lab1/today")


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("memo://lab1/today", "memo://lab1/today"),
        ("memo:a/../b/", "memo:b/"),
        ("urn:isbn:0451", "urn:isbn:0451"),
        ("a/../../b", "b"),
        ("x://h/a/..", "x://h/"),
        ("x://h/%e9%2541?%2e#%2e", "x://h/\ufffd%2541?%2e#%2e"),
        ("x://h/e\u0301", "x://h/\u00e9"),
        ("", ""),
    ],
)
def test_a_uri_is_resolved(uri: str, found: str) -> None:
    assert resolved(uri) == found
    assert resolved(found) == found
