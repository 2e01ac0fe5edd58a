"""What operators see of a running gateway over its control plane: events, ended calls, questions, the log."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from loguru import logger

from gateway_core import Reject, hookimpl
from gateway_core.activity.events import MAX_TEXT, TYPES
from gateway_core.log import output
from tests.activity.conftest import MODERN, TOKEN, Stand, eventually
from tests.log.kit import Settings

pytestmark = pytest.mark.timeout(180)
_SERVER = Path(__file__).parents[1] / "pipeline" / "input_required" / "asker.py"
ASKER = {
    "name": "asker",
    "transport": "stdio",
    "command": sys.executable,
    "args": [str(_SERVER), "--legacy-only"],
}
"""A server that asks in the middle of its calls."""


async def called(client: Any, tool: str, **arguments: Any) -> Any:
    return await client.call_tool(tool, arguments)


async def test_a_stream_tells_of_calls_while_it_is_read(stand: Stand) -> None:
    await stand.start()
    async with stand.client() as client:
        await called(client, "echo", text="before")
        async with stand.events("?types=call") as message:
            first, data = await message()
            assert data == {"events": []}, "a reader without a number wants what happens from now on"
            await called(client, "echo", text="secret-payload")
            seq, data = await message()
            (call,) = [one for one in data["events"] if one["name"] == "echo"]
    assert seq >= call["seq"] > first
    expected = {"type": "call", "method": "tools/call", "upstream": "desk", "outcome": "ok", "era": "modern"}
    assert {key: call[key] for key in expected} == expected
    assert (call["verified"], call["sent"], call["generation"], call["error"]) == (False, True, 1, None)
    assert call["bytes"] > 0
    assert call["seconds"] > 0
    assert call["session"] is None
    assert "secret-payload" not in json.dumps(data)


async def test_calls_are_recorded_only_while_an_operator_looks_but_failures_always(stand: Stand) -> None:
    await stand.start()
    recorded = stand.gateway.activity.journal.calls
    async with stand.client() as client:
        await called(client, "echo", text="x")
        await called(client, "fail", text="quoted")
        assert [(one.name, one.outcome) for one in recorded] == [("fail", "tool_error")]
        found = await stand.ask("/admin/calls/recent")
        assert (len(found["calls"]), found["recording"]) == (1, True), (
            "a look makes all of them be recorded for a while"
        )
        assert "quoted" not in json.dumps(found)
        await called(client, "echo", text="x")
        after = await stand.ask(f"/admin/calls/recent?after={found['last']}")
        assert [one["name"] for one in after["calls"]] == ["echo"]
    stand.gateway.activity._watching.stop_waiting()
    stand.gateway.activity._watching._decide()
    async with stand.client() as client:
        await called(client, "echo", text="x")
    assert [one.name for one in recorded] == ["fail", "echo"]


async def test_the_end_of_the_last_stream_ends_the_recording(stand: Stand) -> None:
    await stand.start()
    watching = stand.gateway.activity._watching
    async with stand.events("?types=upstream,reload") as message:
        await message()
        assert not watching.on, "this reader does not want calls"
    async with stand.events("?types=call") as message:
        await message()
        assert watching.on
        async with stand.events() as other:
            await other()

    async def is_off() -> bool:
        return not watching.on

    await eventually(is_off)


async def test_recent_calls_are_filtered_latest_first(stand: Stand) -> None:
    await stand.start()
    await stand.ask("/admin/calls/recent")
    async with stand.client() as client:
        for name in ("echo", "echo", "desk:echo"):
            await called(client, name, text="x")
        await called(client, "fail", text="x")
    found = (await stand.ask("/admin/calls/recent?name=echo&limit=2"))["calls"]
    assert [one["name"] for one in found] == ["desk:echo", "echo"]
    assert found[0]["seq"] > found[1]["seq"]
    failed = (await stand.ask("/admin/calls/recent?outcome=tool_error"))["calls"]
    assert [one["name"] for one in failed] == ["fail"]
    agent = failed[0]["agent"]
    of_agent = (await stand.ask(f"/admin/calls/recent?agent={agent}&upstream=desk"))["calls"]
    assert len(of_agent) == 4
    assert (await stand.ask("/admin/calls/recent?upstream=other"))["calls"] == []
    for wrong in ("limit=0", "limit=1001", "after=-1", "colour=red"):
        assert "error" in await stand.ask(f"/admin/calls/recent?{wrong}", status=422)


async def test_a_call_in_flight_shows_its_progress_and_later_how_it_ended(stand: Stand) -> None:
    await stand.start()

    async def live() -> Any:
        for one in (await stand.ask("/admin/calls"))["calls"]:
            details = await stand.ask(f"/admin/calls/{one['id']}")
            if any(it["what"] == "progress" and it["text"] == "3" for it in details["timeline"]):
                return details
        return None

    async def seen(*_: Any) -> None: ...

    async with stand.client() as client:
        call = asyncio.create_task(client.call_tool("wait", {"seconds": 40}, progress_callback=seen))
        details = await eventually(live)
        assert (details["state"], details["name"], details["outcome"]) == ("in flight", "wait", None)
        assert "payload" not in json.dumps(details)
        await stand.ask(f"/admin/calls/{details['id']}/cancel", "POST")
        await call
    ended = await stand.ask(f"/admin/calls/{details['id']}")
    assert (ended["state"], ended["outcome"]) == ("ended", "unknown")
    assert [one["what"] for one in ended["timeline"]] == ["began", "progress", "ended"]
    assert "there is no call 'none'" in (await stand.ask("/admin/calls/none", status=404))["error"]


class Guard:
    """Refuses calls of one tool."""

    @hookimpl
    def before_call(self, call: Any) -> Reject | None:
        return Reject("not today", rule="closed") if call.name == "echo" else None


async def test_a_refusal_is_recorded_with_the_plugin_and_its_rule(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway_core.hooks import loader
    from gateway_core.testing import configured

    monkeypatch.setattr(loader, "load", lambda *_, **__: [configured(Guard, name="guard")])
    await stand.start()
    async with stand.client() as client:
        with pytest.raises(Exception, match="not today"):
            await called(client, "echo", text="x")
    (call,) = (await stand.ask("/admin/calls/recent"))["calls"]
    assert call["decisions"] == [{"plugin": "guard", "decided": "refuse", "rule": "closed"}]
    assert call["error"] == {"code": -31003, "text": "not today"}
    details = await stand.ask(f"/admin/calls/{call['id']}")
    assert [(it["what"], it["who"], it["text"]) for it in details["timeline"]] == [
        ("began", "", ""),
        ("decided", "guard", "refuse closed"),
        ("ended", "", "refused"),
    ]


async def test_states_of_upstreams_reloads_and_lists_are_events(stand: Stand) -> None:
    await stand.start()
    gone = {"name": "gone", "transport": "http", "url": "http://127.0.0.1:9/mcp"}
    async with stand.client() as client, stand.events("?types=upstream,reload,lists,log") as message:
        await client.list_tools()
        await message()
        stand.write(upstreams=(gone,), tools={})
        with pytest.raises(Exception, match="tools"):
            await stand.gateway.reload()
        refused = await stand.until(message, lambda one: one["type"] == "reload")
        assert (refused["generation"], refused["problems"]) == (1, 1)
        stand.write(upstreams=(gone,))
        await stand.gateway.reload()
        down = await stand.until(message, lambda one: one["type"] == "upstream" and one["name"] == "gone")
        assert (down["before"], down["state"]) == ("connecting", "down")
        assert "127.0.0.1:9" in down["reason"]
        done = await stand.until(message, lambda one: one["type"] == "reload")
        assert (done["generation"], done["problems"]) == (2, 0)
        logger.bind(upstream="gone").warning("a warning at http://127.0.0.1/ask/{}", "k" * 43)
        logged = await stand.until(message, lambda one: one["type"] == "log" and "a warning" in one["text"])
        assert (logged["level"], logged["fields"]) == ("WARNING", {"upstream": "gone"})
        assert "k" * 43 not in logged["text"], "the address of a page is a secret of one agent"


async def test_no_half_of_a_secret_is_left_where_a_text_is_cut_off(stand: Stand) -> None:
    await stand.start()
    half = TOKEN[: len(TOKEN) // 2]
    page = "http://127.0.0.1/ask/" + "k" * 43
    async with stand.events("?types=log") as message:
        await message()
        for secret, shown in ((TOKEN, half), (page, "k" * 20)):
            filler = "x" * (MAX_TEXT - 1 - len(secret) // 2 - (len(secret) % 2 == 0))
            logger.bind(about=f"{filler} {secret}").warning("{} {}", filler, secret)
            logged = await stand.until(message, lambda one: one["type"] == "log" and "xx" in one["text"])
            assert shown not in str(logged)
            assert len(logged["text"]) == len(logged["fields"]["about"]) <= MAX_TEXT


async def test_sessions_begin_and_end_without_their_ids(stand: Stand) -> None:
    await stand.start()
    async with stand.events("?types=session") as message:
        await message()
        async with stand.client("legacy"):
            (session,) = (await stand.ask("/admin/sessions"))["sessions"]
            began = await stand.until(message, lambda one: one["what"] == "began")
            assert began["key"] == session["key"]
        ended = await stand.until(message, lambda one: one["what"] == "ended")
        assert ended["key"] == session["key"]


@pytest.mark.parametrize("era", ["legacy", MODERN])
async def test_a_question_is_listed_and_can_be_cancelled(stand: Stand, era: str) -> None:
    """The server knows no modern requests, so that it asks in the middle of its call."""
    await stand.start(upstreams=(ASKER,))
    asked = asyncio.Event()

    async def answer(*_: Any) -> types.ElicitResult:
        asked.set()
        await asyncio.sleep(60)
        raise AssertionError

    async def open_questions() -> Any:
        return (await stand.ask("/admin/questions"))["questions"]

    async with stand.client(era, elicitation_callback=answer) as client, stand.events("?types=question") as message:
        await message()
        call = asyncio.create_task(client.call_tool("greet", {"who": "payload"}))
        await asked.wait()
        (question,) = await eventually(open_questions)
        assert question["kind"] == ("open" if era == "legacy" else "parked")
        assert (question["name"], question["source"], question["allowed"]) == ("greet", "asker", ["cancel"])
        assert "payload" not in json.dumps(question)
        kind = "asking" if era == "legacy" else "parked"
        await stand.until(message, lambda one: one[kind] == 1)
        path = f"/admin/questions/{question['id']}"
        refused = await stand.ask(f"{path}/answer", "POST", 403, body={"approve": True})
        assert "operators may not answer" in refused["error"]
        await stand.ask(f"{path}/cancel", "POST")
        await stand.until(message, lambda one: one["asking"] == one["parked"] == 0)
        assert await open_questions() == []
        assert "there is no such question" in (await stand.ask("/admin/questions/x/cancel", "POST", 404))["error"]
        call.cancel()
        await asyncio.wait({call})


async def test_a_reader_that_comes_back_continues_where_it_was(stand: Stand) -> None:
    await stand.start()
    async with stand.client() as client:
        async with stand.events("?types=call") as message:
            seq, _ = await message()
        await stand.ask("/admin/calls/recent")
        await called(client, "echo", text="x")
        async with stand.events("?types=call", **{"Last-Event-ID": str(seq)}) as message:
            _, data = await message()
            assert "echo" in [one["name"] for one in data["events"]]
            assert "missed" not in data
        async with stand.events("?types=call", **{"Last-Event-ID": "12"}) as message:
            _, data = await message()
            assert "echo" in [one["name"] for one in data["events"]], "an earlier process has lower numbers"


@pytest.mark.parametrize("wrong", ["?types=calls", "?types=call,,", "?after=x", "?after=1e3", "?types=call&types=log"])
async def test_a_stream_that_cannot_be_is_an_error(stand: Stand, wrong: str) -> None:
    await stand.start()
    found = await stand.ask(f"/admin/events{wrong}", status=422)
    assert found["error"]
    assert ", ".join(TYPES) in found["error"] or "types=call" not in wrong or "more than once" in found["error"]


async def test_the_last_lines_of_the_log_are_filtered(stand: Stand, tmp_path: Any) -> None:
    path = tmp_path / "log"
    output.setup(Settings(file=str(path)), to_terminal=False)
    try:
        await stand.start()
        async with stand.client() as client:
            before = (await stand.ask("/admin/log"))["last"]
            await called(client, "echo", text="x")
            await called(client, "fail", text="x")
            output.flush()
        found = await stand.ask(f"/admin/log?after={before}&upstream=desk")
        assert [one["text"] for one in found["lines"]] == ["tools/call echo", "tools/call fail"]
        (failed,) = (await stand.ask(f"/admin/log?after={before}&outcome=tool_error"))["lines"]
        assert failed["fields"]["upstream"] == "desk"
        same = (await stand.ask(f"/admin/log?exchange={failed['fields']['exchange']}"))["lines"]
        assert same[-1] == failed
        assert {one["fields"]["exchange"] for one in same} == {failed["fields"]["exchange"]}
        assert (await stand.ask(f"/admin/log?after={found['last']}&level=ERROR"))["lines"] == []
        assert "error" in await stand.ask("/admin/log?level=LOUD", status=422)
    finally:
        output.end()


async def test_the_stderr_of_a_child_can_be_read(stand: Stand) -> None:
    await stand.start()
    async with stand.client() as client:
        for text in ("one", "two", "three"):
            await called(client, "grumble", text=text)

    async def lines() -> Any:
        found = (await stand.ask("/admin/upstreams/desk/log?limit=2"))["lines"]
        return found if found[-1:] == ["three"] else None

    assert await eventually(lines) == ["two", "three"]
    assert "there is no upstream 'other'" in (await stand.ask("/admin/upstreams/other/log", status=404))["error"]
    assert stand.gateway.reconnect("desk")

    async def restarted() -> Any:
        (upstream,) = (await stand.ask("/admin/status"))["upstreams"]
        return upstream["connects"] == 2

    await eventually(restarted)
    assert await lines() == ["two", "three"], "the last words of a process outlive it"
