"""Clauses on legacy agents' sessions and streams (2025-11-25, basic/transports)."""

import asyncio
import contextlib
import json
from typing import Any

import aiohttp
import pytest
from mcp import Client

LEGACY = "2025-11-25"


# -- 53, 55, 56: sessions -------------------------------------------------------------------------------------------


async def test_clause_53_session_ids_are_random_and_visible_ascii(stand: Any) -> None:
    ids = [(await stand.initialize())["Mcp-Session-Id"] for _ in range(50)]
    assert len(set(ids)) == 50
    for session_id in ids:
        assert len(session_id) >= 43, "256 bits"
        assert all("\x21" <= char <= "\x7e" for char in session_id)
    status = json.dumps(stand.gateway.status())
    assert not any(session_id in status for session_id in ids)


@pytest.mark.parametrize("verb", ["POST", "GET", "DELETE"])
async def test_clause_53_without_a_session_400_and_after_its_end_404(stand: Any, msg: Any, verb: str) -> None:
    session = await stand.initialize()
    assert (await stand.send("DELETE", session)).status == 204
    for headers, status in [({}, 400), (session, 404), ({"Mcp-Session-Id": "never"}, 404)]:
        answer = await stand.send(verb, headers, msg.legacy("ping") if verb == "POST" else None)
        assert answer.status == status
    again = await stand.initialize()
    assert (await stand.legacy(again, "ping")).status == 200


async def test_clause_53_delete_ends_the_upstream_sessions_of_that_agent_alone(legacy_stand: Any, msg: Any) -> None:
    stand = legacy_stand
    first, second = await stand.initialize("a"), await stand.initialize("b")
    for number, session in enumerate((first, second)):
        assert (await stand.legacy(session, "tools/call", msg.calling("echo", text=str(number)))).text == str(number)
    used = [seen.headers["mcp-session-id"] for seen in stand.lab.of("tools/call")]
    assert len(set(used)) == 2
    assert (await stand.send("DELETE", first)).status == 204
    async with asyncio.timeout(5):
        while not stand.lab.of("DELETE"):
            await asyncio.sleep(0.01)
    assert [seen.headers["mcp-session-id"] for seen in stand.lab.of("DELETE")] == [used[0]]
    assert (await stand.legacy(second, "tools/call", msg.calling("echo", text="x"))).text == "x"
    assert stand.lab.of("tools/call")[-1].headers["mcp-session-id"] == used[1]


async def test_clause_55_without_a_version_header_the_session_tells_the_version(stand: Any, msg: Any) -> None:
    for version in ("2025-03-26", LEGACY):
        session = await stand.initialize(version=version)
        del session["MCP-Protocol-Version"]
        assert (await stand.legacy(session, "tools/call", msg.calling("echo", text="x"))).text == "x"


@pytest.mark.parametrize("retry", [400, 50])
async def test_clause_55_an_upstreams_retry_is_waited_for(legacy_stand: Any, msg: Any, retry: int) -> None:
    stand = legacy_stand
    session = await stand.initialize()

    async def breaks_off(seen: Any, send: Any) -> None:
        stand.lab.wires["GET"] = goes_on
        event = b"id: e-1\nretry: %d\ndata:\n\n" % retry
        await msg.answer(send, 200, event, "text/event-stream")

    async def goes_on(seen: Any, send: Any) -> None:
        if seen.headers.get("last-event-id") != "e-1":
            await msg.answer(send, 405, b"")
            return
        call = stand.lab.of("tools/call")[-1]
        result = {"content": [{"type": "text", "text": "after all"}]}
        response = json.dumps({"jsonrpc": "2.0", "id": call.body["id"], "result": result})
        await msg.answer(send, 200, f"data: {response}\n\n".encode(), "text/event-stream")

    stand.lab.wires["echo"] = breaks_off
    assert (await stand.legacy(session, "tools/call", msg.calling("echo"))).text == "after all"
    (call,) = stand.lab.of("tools/call")
    (resumed,) = [seen for seen in stand.lab.of("GET") if seen.headers.get("last-event-id") == "e-1"]
    assert retry / 1000 <= resumed.at - call.at < retry / 1000 + 0.9  # the usual second is not waited for


async def test_clause_55_an_agent_is_told_when_to_come_back(stand: Any, msg: Any) -> None:
    session = await stand.initialize()
    async with stand.stream("GET", session) as events:
        assert (await events.next() or {})["retry"] == "1000"


async def test_clause_56_a_session_id_is_no_authentication(stand: Any, msg: Any) -> None:
    """Somebody else with a valid id gets what an unknown id gets, and disturbs nothing."""
    session = await stand.initialize()
    async with stand.stream("POST", session, msg.legacy("tools/call", msg.calling("steps", "t"), 7)) as events:
        priming = await events.next()
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=connector) as stranger:
            for verb in ("POST", "GET", "DELETE"):
                bodies = []
                for session_id in (session["Mcp-Session-Id"], "unknown"):
                    headers = {**session, "Mcp-Session-Id": session_id, "Last-Event-ID": priming["id"]}
                    body = {"json": msg.legacy("ping")} if verb == "POST" else {}
                    async with stranger.request(verb, stand.url, headers=headers, **body) as response:
                        assert response.status == 404
                        bodies.append(await response.read())
                assert bodies[0] == bodies[1]
        stand.lab.released.set()
        assert (await events.rest())[-1]["id"] == 7


# -- 54: streams ----------------------------------------------------------------------------------------------------


def change(stand: Any, kind: str) -> None:
    """What the catalog does when the list of an upstream has changed."""
    for listener in tuple(stand.gateway.catalog._listeners):
        listener(frozenset({kind}))


async def test_clause_54_a_message_is_on_one_stream_only(stand: Any) -> None:
    session = await stand.initialize()
    async with stand.stream("GET", session) as first, stand.stream("GET", session) as second:
        told: list[str] = []

        async def follow(stream: Any) -> None:
            while (message := await stream.message()) is not None:
                told.append(message["method"])

        following = [asyncio.ensure_future(follow(stream)) for stream in (first, second)]
        for kind in ("tools", "prompts", "resources"):
            change(stand, kind)
        async with asyncio.timeout(5):
            while len(told) < 3:
                await asyncio.sleep(0.01)
        await stand.send("DELETE", session)  # both streams end, with whatever else was in them
        await asyncio.gather(*following)
        assert sorted(told) == [f"notifications/{kind}/list_changed" for kind in ("prompts", "resources", "tools")]


async def test_clause_54_a_broken_answer_is_resumed_and_nothing_else(stand: Any, msg: Any) -> None:
    session = await stand.initialize()
    seen: list[dict[str, str]] = []
    async with (
        stand.stream("GET", session) as standalone,
        stand.stream("POST", session, msg.legacy("tools/call", msg.calling("steps", "o"), 8)) as other,
    ):
        seen += [await standalone.next(), await other.next(), await other.next()]
        async with stand.stream("POST", session, msg.legacy("tools/call", msg.calling("steps", "t"), 7)) as events:
            priming, progress = await events.next(), await events.next()
        assert (priming["data"], json.loads(progress["data"])["params"]["progressToken"]) == ("", "t")
        change(stand, "tools")
        async with stand.stream("GET", {**session, "Last-Event-ID": priming["id"]}) as resumed:
            again = await resumed.next()
            stand.lab.released.set()
            rest = [await resumed.next(), await resumed.next()]
            assert await resumed.next() is None, "the stream ends with its answer"
        assert again == progress
        last, answer = (json.loads(event["data"]) for event in rest)
        assert (last["params"]["progressToken"], answer["id"]) == ("t", 7)
        listed = await standalone.next()
        assert json.loads(listed["data"])["method"] == "notifications/tools/list_changed"
        rest += [await other.next(), await other.next(), listed]
        assert json.loads(rest[3]["data"])["id"] == 8
    ids = [event["id"] for event in [priming, progress, *seen, *rest]]
    assert len(set(ids)) == len(ids), "event ids are unique in the session"
    assert len(stand.lab.of("tools/call")) == 2, "nothing is executed again"


async def test_clause_54_an_answer_that_its_agent_did_not_read_waits(stand: Any, msg: Any) -> None:
    session = await stand.initialize()
    async with stand.stream("POST", session, msg.legacy("tools/call", msg.calling("steps", "t"), 7)) as events:
        priming, progress = await events.next(), await events.next()
    stand.lab.released.set()
    async with asyncio.timeout(5):
        while stand.gateway.pipeline.in_flight:
            await asyncio.sleep(0.01)
    for event, count in [(priming, 3), (progress, 2)]:
        async with stand.stream("GET", {**session, "Last-Event-ID": event["id"]}) as resumed:
            messages = await resumed.rest()
        assert len(messages) == count
        assert messages[-1]["result"]["content"][0]["text"] == "done"


async def test_clause_54_no_response_is_on_a_standing_stream(stand: Any, msg: Any) -> None:
    session = await stand.initialize()
    async with stand.stream("GET", session) as standalone:
        async with stand.stream("POST", session, msg.legacy("tools/call", msg.calling("steps", "t"), 7)) as events:
            priming = await events.next()
        stand.lab.released.set()
        async with asyncio.timeout(5):
            while stand.gateway.pipeline.in_flight:
                await asyncio.sleep(0.01)
        assert (await stand.legacy(session, "tools/call", msg.calling("echo"))).status == 200
        change(stand, "tools")
        assert (await standalone.message())["method"] == "notifications/tools/list_changed"
        async with stand.stream("GET", {**session, "Last-Event-ID": priming["id"]}) as resumed:
            assert (await resumed.rest())[-1]["id"] == 7


async def test_clause_54_event_ids_of_other_agents_and_unknown_ones_get_nothing(stand: Any, msg: Any) -> None:
    mine, other = await stand.initialize("a"), await stand.initialize("b")
    async with stand.stream("POST", mine, msg.legacy("tools/call", msg.calling("steps", "t"))) as events:
        priming = await events.next()
    name = priming["id"].partition("-")[0]
    for session, event_id in [(other, priming["id"]), (mine, f"{name}-1000"), (mine, "0-0"), (mine, "x" * 5000)]:
        answer = await stand.send("GET", {**session, "Last-Event-ID": event_id})
        assert (answer.status, answer.code) == (400, -32600)


@pytest.mark.parametrize(("version", "primed"), [(LEGACY, True), ("2025-06-18", False), ("2025-03-26", False)])
async def test_clause_54_only_agents_that_know_it_get_a_priming_event(
    stand: Any, msg: Any, version: str, primed: bool
) -> None:
    stand.lab.released.set()
    session = await stand.initialize(version=version)
    async with stand.stream("POST", session, msg.legacy("tools/call", msg.calling("steps", "t"))) as events:
        first = await events.next()
        assert (first["data"] == "") is primed
        assert first["id"].endswith("-0" if primed else "-1")
        assert (await events.rest())[-1]["id"] == 1


async def test_clause_54_a_silent_call_can_be_resumed_too(
    stand: Any, msg: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.downstream.streams.stream.QUIET", 0.05)
    session = {**await stand.initialize(), "Accept": "application/json, text/event-stream"}
    async with stand.stream("POST", session, msg.legacy("tools/call", msg.calling("steps"), 7)) as events:
        priming = await events.next()
        assert priming["data"] == ""
    stand.lab.released.set()
    async with stand.stream("GET", {**session, "Last-Event-ID": priming["id"]}) as resumed:
        assert [message["id"] for message in await resumed.rest()] == [7]


class Cable:
    """A TCP proxy that can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends += [writer, onward]
        await asyncio.gather(self._carry(reader, onward), self._carry(there, writer))

    @staticmethod
    async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


async def test_clause_54_the_official_client_gets_its_answer_over_a_broken_connection(stand: Any) -> None:
    cable = Cable(int(stand.base.rpartition(":")[2]))
    async with await asyncio.start_server(cable, "127.0.0.1", 0) as proxy:
        url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/mcp"
        seen: list[float] = []
        begun = asyncio.Event()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            seen.append(progress)
            begun.set()

        async with Client(url, mode="legacy", read_timeout_seconds=20) as client:
            calling = asyncio.ensure_future(client.call_tool("steps", {}, progress_callback=on_progress))
            async with asyncio.timeout(5):
                await begun.wait()
            cable.cut()
            stand.lab.released.set()
            result = await calling
        assert result.content[0].text == "done"
        assert seen == [1, 2]
        assert len(stand.lab.of("tools/call")) == 1
        cable.cut()


async def test_clause_54_an_answer_in_one_piece_is_no_stream(stand: Any, msg: Any) -> None:
    session = await stand.initialize()
    answer = await stand.legacy(session, "tools/call", msg.calling("echo", text="x"))
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.text == "x"
