"""One list of one upstream: its pages, its bounds, and its turns."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gateway_core.api import Era, Kind
from gateway_core.errors import OutcomeUnknown, RpcError
from gateway_core.limits.accounts import Account
from gateway_core.limits.budget import MemoryBudget
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.sdk import SDK
from gateway_core.upstream.lists.fetched_lists import FetchedList, FetchedLists
from gateway_core.upstream.lists.listing import (
    COPIES,
    MAX_BYTES,
    MAX_ENTRY,
    MAX_ITEMS,
    MAX_PAGES,
    MAX_WARNINGS,
    fetch_list,
)
from gateway_core.upstream.requests import Reply

GOOD = {"name": "good", "inputSchema": {"type": "object"}}
Answer = Callable[[Any], bytes | RpcError]


async def listed(answer: Answer | bytes, kind: Kind = "tool", era: Era = "legacy", **settings: Any) -> FetchedList:
    """What comes of a server that answers so; `answer` is called with the cursor as JSON gives it."""

    async def send(method: str, params: Mapping[str, Any]) -> Reply:
        cursor = json.loads(jsonrpc.encode(params)).get("cursor")
        found = answer if isinstance(answer, bytes) else answer(cursor)
        return Reply(error=found) if isinstance(found, RpcError) else Reply(found)

    return await fetch_list("a", send, era, kind, **{"timeout": 30, **settings})


def page(*entries: Any, **members: Any) -> bytes:
    return json.dumps({"tools": entries, **members}).encode()


def names(found: FetchedList) -> list[str]:
    return [item.name for item in found.items]


async def test_an_entry_that_is_fine_keeps_its_bytes() -> None:
    raw = b'{ "name":"good",  "inputSchema":{"type":"object","maximum":1e2}}'
    found = await listed(b'{"tools":[%b, {"name":"bad","inputSchema":5}]}' % raw)
    assert [item.raw for item in found.items] == [raw]
    assert found.warnings == ("tool 'bad' of upstream a is left out: inputSchema is missing or malformed",)


async def test_a_repaired_entry_is_written_anew_and_reported() -> None:
    found = await listed(page({**GOOD, "title": None, "annotations": {"readOnlyHint": 1}}))
    assert json.loads(found.items[0].raw) == {**GOOD, "annotations": {}}
    assert found.items[0].definition == json.loads(found.items[0].raw)
    (warning,) = found.warnings
    assert warning == "tool 'good' of upstream a is repaired; malformed members: title, annotations.readOnlyHint"


@pytest.mark.parametrize(
    "answer",
    [
        b'{"tools":null}',
        b'{"tools":{}}',
        b'{"tools":"none"}',
        b"{}",
        b'{"resources":[]}',
        b"[]",
        b"null",
        b'{"tools":[{}',
        b'{"tools":[' + b"1," * 1_000_001 + b"1]}",
    ],
    ids=lambda answer: answer[:20].decode(),
)
async def test_what_is_no_list_is_a_failure(answer: bytes) -> None:
    with pytest.raises(RpcError, match="malformed"):
        await listed(answer)


async def test_an_announced_list_that_is_no_method_is_empty() -> None:
    assert (await listed(lambda cursor: RpcError(-32601, "no such method"))).items == ()


@pytest.mark.parametrize("code", [-32600, -32602, -32603, -32000, 0, 5, 404])
async def test_any_other_error_is_a_failure(code: int) -> None:
    with pytest.raises(RpcError):
        await listed(lambda cursor: RpcError(code, "no"))


@pytest.mark.parametrize("cursor", ["text", "", 1, 0, -7, 2.5])
async def test_a_cursor_goes_back_as_it_came(cursor: Any) -> None:
    seen = []

    def answer(given: Any) -> bytes:
        seen.append(given)
        return page(GOOD, nextCursor=cursor) if given is None else page({**GOOD, "name": "last"})

    assert names(await listed(answer)) == ["good", "last"]
    assert seen == [None, cursor]
    assert type(seen[1]) is type(cursor)


@pytest.mark.parametrize("cursor", [True, False, {}, []])
async def test_a_cursor_that_is_none_ends_the_list_and_is_reported(cursor: Any) -> None:
    found = await listed(page(GOOD, nextCursor=cursor))
    assert names(found) == ["good"]
    assert "its cursor is no text" in found.warnings[0]


@pytest.mark.parametrize("cursor", ["same", 5, "x" * 20_000])
async def test_the_same_cursor_again_or_a_huge_one_ends_the_list(cursor: Any) -> None:
    asked = []

    def answer(given: Any) -> bytes:
        asked.append(given)
        return page(GOOD, nextCursor=cursor)

    found = await listed(answer)
    assert names(found) == ["good"]
    assert len(asked) <= 2
    assert "does not end" in found.warnings[0]


async def test_pages_without_end_are_cut() -> None:
    asked: list[Any] = []

    def answer(given: Any) -> bytes:
        asked.append(given)
        return page(nextCursor=len(asked))

    assert "does not end" in (await listed(answer)).warnings[0]
    assert len(asked) == MAX_PAGES


async def test_a_list_that_breaks_is_kept_as_far_as_it_came() -> None:
    found = await listed(lambda cursor: page(GOOD, nextCursor="x") if cursor is None else RpcError(-1, "x" * 10_000))
    assert names(found) == ["good"]
    assert "broke off after 1 entries" in found.warnings[0]
    assert len(found.warnings[0]) < 400


async def test_silence_has_an_end() -> None:
    async def silent(method: str, params: Mapping[str, Any]) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(OutcomeUnknown, match="no answer to prompts/list in time"):
        await fetch_list("a", silent, "legacy", "prompt", timeout=0.05)


async def test_a_huge_entry_is_left_out_unread() -> None:
    found = await listed(page({**GOOD, "name": "huge", "description": "x" * MAX_ENTRY}, GOOD))
    assert names(found) == ["good"]
    assert "tool number 1 of upstream a is left out: it has more than" in found.warnings[0]


async def test_a_page_of_empty_objects_is_cut_reported_in_few_lines_and_lets_others_work() -> None:
    answer = b'{"tools":[' + b"{}," * 350_000 + b'{"name":"good","inputSchema":{"type":"object"}}]}'
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    found = await listed(answer)
    counting.cancel()
    assert turns >= 50, "one turn for at most 200 entries"
    assert found.items == ()
    assert len(found.warnings) <= MAX_WARNINGS + 3
    assert f"{MAX_ITEMS - MAX_WARNINGS} more entries are malformed" in found.warnings[-1]
    assert "too long" in found.warnings[0]


async def test_a_list_is_cut_at_its_size_too() -> None:
    entry = {"inputSchema": {"type": "object"}, "description": "x" * 500_000}
    found = await listed(page(*({"name": f"t{number}", **entry} for number in range(40))))
    assert sum(len(item.raw) for item in found.items) <= MAX_BYTES
    assert len(found.items) == 33
    assert "does not end, or is too long: kept the first 33 entries" in found.warnings[0]


async def test_large_entries_let_others_work_too() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await listed(page(*({**GOOD, "name": f"t{number}", "description": "x" * 100_000} for number in range(50))))
    counting.cancel()
    assert turns >= 40


async def test_only_wanted_tools_are_kept_and_missing_ones_reported() -> None:
    found = await listed(page(GOOD, {**GOOD, "name": "other"}), wanted=frozenset({"good", "gone"}))
    assert names(found) == ["good"]
    assert "what its key `tools` asks for: gone" in found.warnings[0]


@pytest.mark.parametrize(("type_of", "seen"), [("string", True), ("nonsense", False)])
async def test_an_output_schema_that_does_not_compile_is_hidden_from_legacy_agents(type_of: str, seen: bool) -> None:
    found = await listed(page({**GOOD, "outputSchema": {"type": "object", "properties": {"a": {"type": type_of}}}}))
    assert found.items[0].legacy == ({} if seen else {"outputSchema": None})
    assert len(found.warnings) == (0 if seen else 1)


@pytest.mark.parametrize("kind", ["tool", "prompt", "resource", "template"])
async def test_a_definition_does_not_say_what_only_the_gateway_says(kind: Kind) -> None:
    meta = {"dev.radium.gateway/upstream": "bank", "io.modelcontextprotocol/subscriptionId": 1, "own": 1}
    entry = {**GOOD, "uri": "x:good", "uriTemplate": "x:good", "_meta": meta}
    key = {"tool": "tools", "prompt": "prompts", "resource": "resources", "template": "resourceTemplates"}[kind]
    found = await listed(json.dumps({key: [entry]}).encode(), kind)
    assert json.loads(found.items[0].raw)["_meta"] == found.items[0].definition["_meta"] == {"own": 1}
    assert "keys of its _meta that only the gateway may set are removed" in found.warnings[0]


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> MemoryBudget:
    monkeypatch.setattr("gateway_core.limits.budget.trim", lambda: None)
    return MemoryBudget(100 * 1024 * 1024, lambda: 0)


def large(entries: int, size: int = 10_000) -> bytes:
    return page(*({**GOOD, "name": f"t{number}", "description": "x" * size} for number in range(entries)))


async def test_a_list_counts_as_long_as_something_refers_to_it(budget: MemoryBudget) -> None:
    found = await listed(large(200), account=Account(budget, "a"))
    held = budget.held_by("a")
    assert 200 * 10_000 * COPIES < held < 200 * 12_000 * COPIES
    lists = FetchedLists().with_list("tool", found, hinted=True)
    del found
    assert budget.held_by("a") == held
    again = FetchedLists().with_list("tool", await listed(large(200), account=Account(budget, "a")), hinted=True)
    assert budget.held_by("a") == 2 * held
    again = again.sharing(lists)
    assert budget.held_by("a") == held, "both share one list"
    del lists
    assert budget.held_by("a") == held
    again = again.with_failure("tool", "gone").only(["tool"])
    assert budget.held_by("a") == held
    again = again.only([])
    assert budget.held_by("a") == 0


async def test_a_list_that_does_not_fit_is_an_error_and_counts_no_more(budget: MemoryBudget) -> None:
    with pytest.raises(RpcError, match="does not fit into the gateway's memory"):
        await listed(large(1000), account=Account(budget, "a"))
    assert budget.held_by("a") == 0
    assert len((await listed(large(100), account=Account(budget, "a"))).items) == 100


async def test_of_chosen_tools_only_these_count(budget: MemoryBudget) -> None:
    found = await listed(large(500), wanted=frozenset({"t1"}), account=Account(budget, "a"))
    assert names(found) == ["t1"]
    assert budget.held_by("a") < 100_000


@pytest.mark.parametrize("mirrored", [True, False])
async def test_the_sdk_is_loaded_before_a_mirrored_header_is_checked(
    monkeypatch: pytest.MonkeyPatch, mirrored: bool
) -> None:
    loaded = []

    async def load() -> None:
        loaded.append(True)

    monkeypatch.setattr(SDK, "load", load)
    region = {"type": "string", **({"x-mcp-header": "Region"} if mirrored else {})}
    tool = {"name": "good", "inputSchema": {"type": "object", "properties": {"region": region}}}
    found = await listed(page(tool))
    assert bool(found.items[0].header_map) is bool(loaded) is mirrored
