import pytest

from gateway_core.catalog.profiles.globs import Globs, matching


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
    assert Globs(globs).shows(names) is shown


def test_a_glob_matches_with_and_without_its_mark() -> None:
    assert matching("!a*", ["ab"])
    assert matching("a*", ["ab"])
    assert not matching("b*", ["ab"])
