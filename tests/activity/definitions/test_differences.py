"""Which definitions differ, and what is shown of them."""

import json
from typing import Any

import pytest

from gateway_core.activity.definitions.differences import (
    MAX_MEMBERS,
    MAX_TEXT,
    Difference,
    MemberDifference,
    differences,
)
from gateway_core.upstream.lists.fetched_lists import Item


def tool(name: str, **members: Any) -> Item:
    return Item("tool", name, json.dumps({"name": name, **members}).encode(), "")


def compare(before: list[Item], after: list[Item]) -> list[Difference]:
    return differences({"tool": before}, {"tool": after})


def test_each_member_that_differs_is_named_with_both_values() -> None:
    (found,) = compare(
        [tool("a", description="Reads.", title="A", inputSchema={"type": "object"})],
        [tool("a", description="Reads all.", annotations={"readOnlyHint": True}, inputSchema={"type": "object"})],
    )
    assert (found.kind, found.name, found.what, found.more) == ("tool", "a", "changed", 0)
    assert found.members == (
        MemberDifference("description", "Reads.", "Reads all.", False),
        MemberDifference("title", "A", None, False),
        MemberDifference("annotations", None, '{\n  "readOnlyHint": true\n}', False),
    )


def test_the_order_of_members_white_space_and_escapes_are_no_difference() -> None:
    before = Item("tool", "a", b'{"name":"a","inputSchema":{"x":1,"y":[2]},"title":"\\u00e4"}', "")
    after = Item("tool", "a", '{"title": "ä", "inputSchema": {"y": [2], "x": 1}, "name": "a"}'.encode(), "")
    assert compare([before], [after]) == []


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (None, False), ([1, 2], [2, 1]), ("1", 1)])
def test_values_of_other_types_and_orders_differ(old: Any, new: Any) -> None:
    (found,) = compare([tool("a", x=old)], [tool("a", x=new)])
    assert [one.name for one in found.members] == ["x"]


def test_a_member_that_is_null_is_not_a_missing_one() -> None:
    (found,) = compare([tool("a", x=None)], [tool("a")])
    assert found.members == (MemberDifference("x", "null", None, False),)


def test_added_and_removed_definitions_follow_the_changed_ones() -> None:
    found = compare(
        [tool("gone", description="G"), tool("stays"), tool("changes", description="1")],
        [tool("comes", description="C"), tool("stays"), tool("changes", description="2")],
    )
    assert [(one.what, one.name) for one in found] == [("changed", "changes"), ("added", "comes"), ("removed", "gone")]
    assert found[1].members == (MemberDifference("description", None, "C", False),)
    assert found[2].members == (MemberDifference("description", "G", None, False),)


def test_only_the_lists_that_are_given_are_compared() -> None:
    assert differences({"tool": [tool("a")], "prompt": []}, {"prompt": []}) == []


def test_of_long_values_the_part_with_the_difference_is_kept() -> None:
    common = "x" * 50_000
    (found,) = compare([tool("a", description=common + "old")], [tool("a", description=common + "new" + common)])
    (member,) = found.members
    assert member.cut
    assert (member.before or "").endswith("xxold")
    assert "xxnewxx" in (member.after or "")
    assert (member.before or "").startswith("…x")
    assert (member.after or "").endswith("x…")
    assert len(member.after or "") <= MAX_TEXT + 2


def test_a_long_value_that_comes_is_cut_at_its_end() -> None:
    (found,) = compare([tool("a")], [tool("a", description="b" * 10_000)])
    (member,) = found.members
    assert (member.before, member.after, member.cut) == (None, "b" * MAX_TEXT + "…", True)


def test_values_that_are_deep_or_large_take_bounded_room() -> None:
    def nested(depth: int, core: list[int]) -> Any:
        value: Any = core
        for _ in range(depth):
            value = [value]
        return value

    before = [tool("a", x=nested(300, [1] * 50_000))]
    after = [tool("a", x=nested(300, [1] * 50_000 + [2]))]
    (found,) = compare(before, after)
    (member,) = found.members
    assert (member.after or "").rstrip("]").endswith("1, 2")
    deep = "[" * 400 + "]" * 400
    (found,) = compare([Item("tool", "a", b'{"x":1}', "")], [Item("tool", "a", b'{"x":%b}' % deep.encode(), "")])
    assert found.members[0].before == "1"


def test_many_members_are_counted() -> None:
    (found,) = compare([tool("a")], [tool("a", **{f"m{number}": 1 for number in range(MAX_MEMBERS + 3)})])
    assert (len(found.members), found.more) == (MAX_MEMBERS, 3)


def test_a_definition_that_is_not_readable_is_compared_as_it_is() -> None:
    before, after = (Item("tool", "a", b'{"x":%b,"x":2}' % digit, "") for digit in (b"1", b"3"))
    (found,) = compare([before], [after])
    assert found.members[0].after == '{"x":3,"x":2}'


def test_text_that_no_encoding_can_carry_is_shown_as_escapes() -> None:
    before, after = (Item("tool", "a", b'{"x":"%b"}' % text, "") for text in (b"a", b"\\ud800"))
    (found,) = compare([before], [after])
    assert found.members[0].after == "\\ud800"
