import pytest

from gateway_core.catalog.profiles.globs import Visible, VisibleUris


@pytest.mark.parametrize(
    ("globs", "names", "shown"),
    [
        (["*"], ["a"], True),
        ([], ["a"], False),
        (["wiki__*"], ["wiki__read"], True),
        (["wiki__*"], ["tickets__read"], False),
        (["tickets:*"], ["search", "tickets:search"], True),
        (["tickets:*", "!*delete*"], ["delete", "tickets:delete"], False),
        (["!*delete*", "tickets:*"], ["delete", "tickets:delete"], False),
        (["!*delete*"], ["search"], True),
        (["!*delete*"], ["delete"], False),
        (["a?c"], ["abc"], True),
        (["a?c"], ["abbc"], False),
        (["a.c"], ["abc"], False),
        (["a*"], ["a\nb"], True),
        (["[a]"], ["a"], False),
        (["[a]"], ["[a]"], True),
    ],
)
def test_a_glob_shows_what_it_matches_unless_another_one_hides_it(
    globs: list[str], names: list[str], shown: bool
) -> None:
    assert Visible(globs).shows(names) is shown


@pytest.mark.parametrize(
    "uri", ["page://a/../secret/b", "page://a/%2e%2e/secret/b", "PAGE://secret//b", "page:///%73ecret/b"]
)
def test_another_way_of_writing_a_uri_shows_nothing_that_is_hidden(uri: str) -> None:
    uri = uri.replace("page://a", "page:///a").replace("PAGE://", "PAGE:///")
    names = [uri, f"wiki:{uri}"]
    for hidden in ("!wiki:page:///secret/*", "!page:///secret/*"):
        globs = VisibleUris(["wiki:*", hidden])
        assert globs.hides(names)
        assert not globs.shows(names)
        assert globs.shows(["page:///a/b", "wiki:page:///a/b"])
    assert not VisibleUris(["wiki:page:///a/*"]).shows(names)
