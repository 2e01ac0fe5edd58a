"""What a tool does, by its annotations."""

from typing import Any

import pytest

from gateway_core.api import tier_of


@pytest.mark.parametrize(
    ("reads", "destroys", "tier"),
    [
        (True, None, "read"),
        (True, False, "read"),
        (True, True, "destructive"),
        (False, None, "destructive"),
        (False, True, "destructive"),
        (False, False, "write"),
        (None, False, "write"),
        (None, True, "destructive"),
        (None, None, None),
        ("yes", 1, None),
        ("yes", False, "write"),
    ],
)
def test_the_hints_put_a_tool_in_a_tier(reads: Any, destroys: Any, tier: str | None) -> None:
    assert tier_of({"readOnlyHint": reads, "destructiveHint": destroys}) == tier
    given = {"readOnlyHint": reads, "destructiveHint": destroys}
    assert tier_of({name: value for name, value in given.items() if value is not None}) == tier
