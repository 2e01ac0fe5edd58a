"""Which definitions differ, and what is shown of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway_core.activity.definitions import differences as module
from gateway_core.activity.definitions.differences import (
    MAX_MEMBER,
    MAX_MEMBERS,
    MAX_TEXT,
    Difference,
    Differences,
    MemberDifference,
    differences,
)
from gateway_core.activity.events import MAX_NAME
from gateway_core.concealing import MARKER, HeldSecrets, Secret
from gateway_core.upstream.lists.fetched_lists import Item
from gateway_core.upstream.status import Definitions

SECRET = "sk-Qabcdefgh123456789"


def tool(name: str, **members: Any) -> Item:
    return Item("tool", name, json.dumps({"name": name, **members}).encode(), "")


def all_of(
    before: Definitions,
    after: Definitions,
    clean: Callable[[bytes], bytes] = bytes,
    limit: int = 1000,
    check: Callable[[], None] = lambda: None,
) -> Differences:
    return differences(before, after, clean, limit, check)


def compare(before: list[Item], after: list[Item]) -> list[Difference]:
    return list(all_of({"tool": before}, {"tool": after}).shown)


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
    assert all_of({"tool": [tool("a")], "prompt": []}, {"prompt": []}) == Differences((), ())


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


@pytest.mark.parametrize("shift", range(1, len(SECRET) + 1))
def test_a_secret_is_hidden_also_where_its_text_is_cut(shift: int) -> None:
    clean = HeldSecrets([Secret("a secret", SECRET)]).clean_line
    at_end = "c" * (MAX_TEXT - shift) + SECRET + "c" * 100
    at_start = "c" * 9000 + SECRET + "d" * (200 - shift)
    name, key = "n" * (MAX_NAME - shift) + SECRET, "m" * (MAX_MEMBER - shift) + SECRET
    before = [tool("end"), tool("start", x=at_start + "1"), tool("member")]
    after = [
        tool("end", x=at_end, y={"in": [at_end]}),
        tool("start", x=at_start + "2" * 9000),
        tool("member", **{key: 1}),
        tool(name),
    ]
    found = all_of({"tool": before}, {"tool": after}, clean).shown
    assert len(found) == 4
    texts = [text for one in found for member in one.members for text in (member.name, member.before, member.after)]
    for text in (*texts, *(one.name for one in found)):
        assert "sk-" not in (text or "")
        assert "6789" not in (text or "")
    assert found[-1].name == ("n" * (MAX_NAME - shift) + MARKER)[:MAX_NAME]


def test_what_is_not_shown_is_not_written_as_text() -> None:
    cleaned = list[bytes]()

    def clean(data: bytes) -> bytes:
        cleaned.append(data)
        return data

    before = [tool(f"t{number}", x=[number]) for number in range(50)]
    after = [tool(f"t{number}", x=[-number]) for number in range(50)]
    found = all_of({"tool": before}, {"tool": [*after, tool("new")]}, clean, limit=3)
    assert [one.name for one in found.shown] == ["t1", "t2", "t3"]
    assert (len(found.found), found.number("changed"), found.number("added")) == (50, 49, 1)
    assert len(cleaned) == 3 * 4, "a name, and a member with its name and two values"


def test_a_limited_part_of_the_values_is_indented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ALL_INDENTED", 100)
    found = compare([], [tool(f"t{number}", x={"a": "b" * 20}) for number in range(9)])
    texts = [one.members[0].after or "" for one in found]
    assert [text.count("\n") for text in texts] == [2, 2, 2, 0, 0, 0, 0, 0, 0]
    assert {json.loads(text)["a"] for text in texts} == {"b" * 20}


@pytest.mark.parametrize("checks", [0, 4, 5, 9])
def test_a_comparison_ends_at_any_definition(checks: int) -> None:
    left = iter(range(checks))

    def check() -> None:
        if next(left, None) is None:
            raise TimeoutError

    before, after = ([tool(f"t{number}", x=text) for number in range(5)] for text in "ab")
    with pytest.raises(TimeoutError):
        all_of({"tool": before}, {"tool": after}, check=check)
