"""Where an error of pydantic is in the settings."""

from typing import Annotated, Any

import pytest
from pydantic import Field

from gateway_core import PluginConfig
from gateway_core.hooks.places import Loc, alternatives, place_of


class Inner(PluginConfig):
    depth: int = Field(default=1, description="how deep", alias="how-deep")


class Settings(PluginConfig):
    one: Inner | int | None = None
    many: tuple[Inner, ...] = ()
    free: dict[str, list[int]] = Field(default_factory=dict)
    either: list[int] | dict[str, int] = Field(default_factory=list)


@pytest.mark.parametrize(
    ("loc", "path", "annotation"),
    [
        (("one", "Inner", "how-deep"), ("one", "how-deep"), int),
        (("one", "int"), ("one",), Inner | int | None),
        (("many", 3), ("many", 3), Inner),
        (("many", 3, "depth"), ("many", 3, "depth"), int),
        (("free", "a.b", 0), ("free", "a.b", 0), int),
        (("free", "a", "[key]"), ("free", "a"), list[int]),
        (("either", "list[int]", 2), ("either", 2), int),
        (("either", "dict[str,int]", "k"), ("either", "k"), int),
        ((), (), Settings),
    ],
)
def test_the_path_is_the_one_of_the_file(loc: Loc, path: Loc, annotation: Any) -> None:
    place = place_of(Settings, loc, is_unknown=False)
    assert (place.path, place.annotation) == (path, annotation)
    assert place.is_name is ("[key]" in loc)


def test_a_key_that_a_table_does_not_have_stays_in_the_path() -> None:
    place = place_of(Settings, ("many", 0, "dept"), is_unknown=True)
    assert place.path == ("many", 0, "dept")
    assert place.tables == (Inner,)


def test_the_alternatives_of_a_type() -> None:
    assert alternatives(Annotated[int | None, "x"] | str) == (int, str)
    assert alternatives(list[int]) == (list[int],)
