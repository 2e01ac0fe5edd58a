"""What people are told about keys of a profile that have no effect."""

from typing import Any

from tests.catalog.profiles.conftest import Make
from tests.catalog.world import World

PROFILE: dict[str, Any] = {
    "tools": ["tickets:*", "nothing*", "!*delete*", "!*unlink*", "*"],
    "prompts": ["wiki:summary", "x"],
    "resources": ["wiki:home", "wiki:pages/*", "file:*"],
    "overrides": [
        {"tool": "tickets:search", "fixed": {"project": "A", "color": "red"}, "defaults": {"limit": 1, "size": 2}},
        {"tool": "gone", "name": "x"},
        {"tool": "tickets__delete", "name": "y"},
        {"tool": "tickets:create", "name": "wiki__read"},
    ],
}


def remarks(world: World) -> list[tuple[Any, str]]:
    return [(one.path, one.text) for one in world.catalog.profiles.remarks(world.catalog.snapshot, "p0")]


def test_what_has_no_effect_is_named_with_its_key(world: Make) -> None:
    assert remarks(world(PROFILE)) == [
        (("tools", 1), "profile p0: tools: 'nothing*' matches nothing"),
        (("tools", 3), "profile p0: tools: '!*unlink*' matches nothing"),
        (("prompts", 1), "profile p0: prompts: 'x' matches nothing"),
        (("resources", 2), "profile p0: resources: 'file:*' matches nothing"),
        (
            ("overrides", 0, "fixed"),
            "profile p0: the override of 'tickets:search': the schema of the tool has no argument 'color', "
            "which is sent nevertheless",
        ),
        (
            ("overrides", 0, "defaults"),
            "profile p0: the override of 'tickets:search': the schema of the tool has no argument 'size', "
            "which is sent nevertheless",
        ),
        (("overrides", 1, "tool"), "profile p0: the override of 'gone' has no effect: there is no such tool"),
        (
            ("overrides", 2, "tool"),
            "profile p0: the override of 'tickets__delete' has no effect: the profile does not show this tool",
        ),
        (
            ("overrides", 3, "name"),
            "profile p0: the override of 'tickets:create': another tool has the name 'wiki__read', "
            "so it is published as 'tickets__create'",
        ),
    ]


def test_a_profile_whose_keys_all_have_an_effect_has_no_remarks(world: Make) -> None:
    assert remarks(world({"tools": ["tickets:*"], "overrides": [{"tool": "tickets:search", "name": "find"}]})) == []
