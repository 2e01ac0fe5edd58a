import pytest

from gateway_core.catalog.profiles.globs import Visible


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
