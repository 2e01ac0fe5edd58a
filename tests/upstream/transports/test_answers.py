"""What HTTP statuses, broken bodies and broken streams become; over a real socket, with every byte written here."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any, cast

import pytest

from gateway_core.api import Principal
from gateway_core.config import LimitsConfig
from gateway_core.errors import OutcomeUnknown, RefusedUpstream, RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.http1.client.response import ClientResponse
from gateway_core.upstream.base import NoMcpAnswer, SessionEnded
from gateway_core.upstream.messages.noise import Noisy
from gateway_core.upstream.messages.unexpected import UnexpectedMessages
from gateway_core.upstream.transports.answers import read_events
from gateway_core.upstream.transports.events import EventParser

CALL = ("tools/call", {"name": "t", "arguments": {}})
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def http(status: int, body: bytes | str = b"", kind: str = "application/json", **headers: str) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def event(message: Mapping[str, Any] | str, event_id: str = "", retry: int | None = None) -> bytes:
    data = message if isinstance(message, str) else json.dumps(message)
    head = (f"id: {event_id}\n" if event_id else "") + (f"retry: {retry}\n" if retry is not None else "")
    return f"{head}data: {data}\n\n".encode()


def answer(seen: Any, value: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": seen.message["id"], "result": value or {"ok": True}}


def error(request_id: Any, code: int = -32000) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": "no", "data": [1]}})


def says(data: bytes) -> Any:
    """A script that answers every request with the same bytes."""

    async def script(seen: Any, writer: Any) -> None:
        writer.write(data)

    return script


def streams(*parts: Any) -> Any:
    """A script that answers with an event stream: bytes, or functions of the request; then it closes."""

    async def script(seen: Any, writer: Any) -> None:
        if seen.verb == "GET":
            writer.write(http(405))
            return
        writer.write(STREAM + b"".join(part if isinstance(part, bytes) else part(seen) for part in parts))
        writer.close()

    return script


# -- statuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 413, 415, 421, 429])
async def test_a_refusal_before_execution_says_so(scripted: Any, connect: Any, status: int) -> None:
    link = await connect((await scripted(says(http(status, "<p>secret</p>", "text/html")))).url)
    with pytest.raises(RefusedUpstream) as caught:
        await link.connection.request(*CALL)
    assert (caught.value.status, caught.value.reason) == (status, f"HTTP {status}")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("7", 7), ("0", 0), ("99999999999", 3600), ("soon", None), ("-1", None), ("in 90 s", 90), ("GMT", 90)],
)
async def test_retry_after_is_read(scripted: Any, connect: Any, value: str, expected: float | None) -> None:
    if expected == 90:
        value = formatdate(time.time() + 90, usegmt=value == "GMT")
    link = await connect((await scripted(says(http(429, Retry_After=value)))).url)
    with pytest.raises(RefusedUpstream) as caught:
        await link.connection.request(*CALL)
    if expected is None:
        assert caught.value.retry_after is None
    else:
        assert caught.value.retry_after == pytest.approx(expected, abs=3)


async def test_503_is_a_refusal_only_with_retry_after(scripted: Any, connect: Any) -> None:
    link = await connect((await scripted(says(http(503, Retry_After="2")))).url)
    with pytest.raises(RefusedUpstream):
        await link.connection.request(*CALL)
    link = await connect((await scripted(says(http(503)))).url)
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL)


@pytest.mark.parametrize("status", [400, 404, 405, 500, 502, 504, 202, 204, 302])
async def test_any_other_status_leaves_the_outcome_unknown(scripted: Any, connect: Any, status: int) -> None:
    body = "" if status == 204 else "<h1>Bad gateway: password=hunter2</h1>"
    link = await connect((await scripted(says(http(status, body, "text/html")))).url)
    with pytest.raises(NoMcpAnswer, match=f"HTTP {status}") as caught:
        await link.connection.request(*CALL)
    assert "hunter2" not in caught.value.reason


@pytest.mark.parametrize("status", [400, 403, 404, 422, 429, 500, 503])
async def test_an_error_with_our_id_is_the_answer_whatever_the_status(scripted: Any, connect: Any, status: int) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(http(status, error(seen.message["id"], -32603), Retry_After="1"))

    link = await connect((await scripted(script)).url)
    reply = await link.connection.request(*CALL)
    assert (reply.error.code, reply.error.message, reply.error.data) == (-32603, "no", [1])


@pytest.mark.parametrize("request_id", [None, "server-error", 99])
async def test_an_error_without_our_id_counts_only_where_nothing_can_have_run(
    scripted: Any, connect: Any, request_id: Any
) -> None:
    link = await connect((await scripted(says(http(400, error(request_id))))).url)
    assert (await link.connection.request(*CALL)).error.code == -32000
    link = await connect((await scripted(says(http(403, error(request_id))))).url)
    with pytest.raises(RefusedUpstream):
        await link.connection.request(*CALL)
    link = await connect((await scripted(says(http(500, error(request_id))))).url)
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL)


@pytest.mark.parametrize(
    "body", ["{}", "[1]", '{"error":{"code":1}}', '{"jsonrpc":"2.0","error":5}', "\xff", "{" * 70_000]
)
async def test_a_body_that_is_no_error_does_not_become_one(scripted: Any, connect: Any, body: str) -> None:
    link = await connect((await scripted(says(http(400, body.encode("latin-1"))))).url)
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL)


async def test_404_to_a_session_ends_it(scripted: Any, connect: Any) -> None:
    server = await scripted(says(http(404, error(None, -32600))), era="legacy", session="s-1")
    link = await connect(server.url)
    assert link.connection.stateful
    with pytest.raises(SessionEnded):
        await link.connection.request(*CALL)
    assert link.connection.closed
    await link.connection.close()
    assert server.of("DELETE") == []


async def test_a_server_that_forgets_sessions_with_a_400_is_understood(scripted: Any, connect: Any) -> None:
    forgot = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "Bad Request: No valid session ID"}}
    link = await connect((await scripted(says(http(400, json.dumps(forgot))), era="legacy", session="s-1")).url)
    with pytest.raises(SessionEnded):
        await link.connection.request(*CALL)
    assert link.connection.closed
    link = await connect((await scripted(says(http(400, error(None))), era="legacy", session="s-1")).url)
    assert (await link.connection.request(*CALL)).error.code == -32000
    assert not link.connection.closed


async def test_404_for_an_unknown_method_does_not_end_the_session(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(http(404, error(seen.message["id"], -32601)) if seen.body else http(405))

    link = await connect((await scripted(script, era="legacy", session="s-1")).url)
    assert (await link.connection.request(*CALL)).error.code == -32601
    assert not link.connection.closed


async def test_404_without_a_session_ends_nothing(scripted: Any, connect: Any) -> None:
    link = await connect((await scripted(says(http(404)), era="legacy")).url)
    with pytest.raises(NoMcpAnswer, match="HTTP 404"):
        await link.connection.request(*CALL)
    assert not link.connection.closed


# -- bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"{oops", b"", b"\xff\xfe", b"[1]", b'{"jsonrpc":"2.0","method":"x"}', b"[" * 100_000, b"<html>login</html>"],
    ids=lambda body: str(body[:20]),
)
async def test_a_malformed_answer_leaves_the_outcome_unknown(scripted: Any, connect: Any, body: bytes) -> None:
    async def script(seen: Any, writer: Any) -> None:
        good = json.dumps(answer(seen)).encode()
        writer.write(http(200, good if seen.message["params"]["name"] == "good" else body))

    link = await connect((await scripted(script)).url)
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL)
    assert (await link.connection.request("tools/call", {"name": "good"})).result


async def test_a_web_page_is_no_answer(scripted: Any, connect: Any) -> None:
    link = await connect((await scripted(says(http(200, "<p>Please log in</p>", "text/html")))).url)
    with pytest.raises(OutcomeUnknown, match="neither JSON nor an event stream"):
        await link.connection.request(*CALL)


@pytest.mark.parametrize("wrong", [777, "777", "0N", "N ", "N.0", "", None])
async def test_an_answer_with_another_id_is_not_accepted(scripted: Any, connect: Any, wrong: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        given = wrong.replace("N", str(seen.message["id"])) if isinstance(wrong, str) else wrong
        writer.write(http(200, json.dumps({"jsonrpc": "2.0", "id": given, "result": {}})))

    link = await connect((await scripted(script)).url)
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL)


@pytest.mark.parametrize(
    ("status", "kind"), [(201, "application/json"), (203, "application/json"), (200, "application/json-rpc")]
)
async def test_other_statuses_of_success_and_names_of_json_carry_an_answer(
    scripted: Any, connect: Any, status: int, kind: str
) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(http(status, json.dumps(answer(seen)), kind))

    link = await connect((await scripted(script)).url)
    assert json.loads((await link.connection.request(*CALL)).result) == {"ok": True}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_result_must_be_an_object_and_an_error_that_is_null_is_none(
    scripted: Any, connect: Any, streamed: bool
) -> None:
    async def script(seen: Any, writer: Any) -> None:
        found = answer(seen) | ({"result": [1]} if seen.message["params"]["name"] == "list" else {"error": None})
        writer.write(STREAM + event(found) if streamed else http(200, json.dumps(found)))
        if streamed:
            writer.close()

    link = await connect((await scripted(script)).url)
    with pytest.raises(OutcomeUnknown, match="not an object"):
        await link.connection.request("tools/call", {"name": "list"})
    reply = await link.connection.request(*CALL)
    assert (reply.error, json.loads(reply.result)) == (None, {"ok": True})


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_text_cut_inside_an_emoji_arrives(scripted: Any, connect: Any, streamed: bool) -> None:
    async def script(seen: Any, writer: Any) -> None:
        if seen.method == "tools/list":
            value: dict[str, Any] = {"tools": [{"name": "t", "description": "so nice \ud83d"}]}
        else:
            value = {"content": [{"type": "text", "text": "so nice \ud83d"}]}
        found = json.dumps(answer(seen, value))
        writer.write(STREAM + event(found) if streamed else http(200, found))
        if streamed:
            writer.close()

    link = await connect((await scripted(script)).url)
    listed = await link.connection.request("tools/list", {})
    assert json.loads(listed.result)["tools"][0]["description"] == "so nice \ufffd"
    called = await link.connection.request(*CALL)
    assert json.loads(called.result)["content"][0]["text"] == "so nice \ufffd"


async def test_a_body_that_breaks_off_leaves_the_outcome_unknown(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"jsonrpc"')
        writer.close()

    link = await connect((await scripted(script)).url)
    with pytest.raises(OutcomeUnknown, match="broke off"):
        await link.connection.request(*CALL)


async def test_an_endless_body_is_cut_at_the_limit(scripted: Any, connect: Any) -> None:
    sent = 0

    async def script(seen: Any, writer: Any) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        while True:
            writer.write(chunk)
            sent += 65536
            await writer.drain()

    link = await connect((await scripted(script)).url, limits=LimitsConfig(response_body=1_000_000))
    with pytest.raises(OutcomeUnknown, match="larger than 1000000 bytes"):
        await link.connection.request(*CALL)
    await asyncio.sleep(0.05)
    assert sent < 20_000_000


async def test_a_trickling_answer_ends_with_the_callers_deadline(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(STREAM)
        while True:
            writer.write(b": ping\n\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    link = await connect((await scripted(script)).url)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await link.connection.request(*CALL)


# -- streams -------------------------------------------------------------------------------------------------------


async def test_the_answer_is_found_among_everything_else(scripted: Any, connect: Any) -> None:
    parts = (
        b"\xef\xbb\xbf: comment\r\n\r\n",
        event(""),
        event("{oops"),
        b"data: \xff\n\n",
        event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}),
        event({"jsonrpc": "2.0", "id": 999, "result": {"of": "another"}}),
        event({"jsonrpc": "2.0", "id": "999", "result": {"of": "another"}}),
        b"event: other\ndata: {}\n\n",
        lambda seen: event(answer(seen)),
        lambda seen: event(answer(seen, {"second": True})),
    )
    link = await connect((await scripted(streams(*parts))).url)
    assert json.loads((await link.connection.request(*CALL)).result) == {"ok": True}
    assert link.connection._session.unexpected.counts.total() == 4


async def test_an_error_on_a_stream_is_an_answer(scripted: Any, connect: Any) -> None:
    link = await connect((await scripted(streams(lambda seen: event(error(seen.message["id"], -32602))))).url)
    assert (await link.connection.request(*CALL)).error.code == -32602


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_stream_that_ends_without_the_answer_fails_at_once(scripted: Any, connect: Any, era: str) -> None:
    others = event({"jsonrpc": "2.0", "id": 999, "result": {}})
    server = await scripted(streams(others), era=era)
    link = await connect(server.url)
    with pytest.raises(OutcomeUnknown, match="without the answer"):
        await link.connection.request(*CALL)
    assert len(server.of("tools/call")) == 1


async def test_an_event_without_end_is_cut_at_the_limit(scripted: Any, connect: Any) -> None:
    link = await connect(
        (await scripted(streams(b"data: " + b"x" * 200_000))).url, limits=LimitsConfig(response_body=100_000)
    )
    with pytest.raises(OutcomeUnknown, match="larger than"):
        await link.connection.request(*CALL)


async def test_a_modern_stream_is_not_resumed(scripted: Any, connect: Any) -> None:
    server = await scripted(streams(event("", "7", 1)))
    link = await connect(server.url)
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL)
    assert server.of("GET") == []


async def test_a_legacy_stream_is_resumed_where_it_ended_and_not_too_soon(scripted: Any, connect: Any) -> None:
    came: list[tuple[str, float]] = []
    asked: list[Any] = []

    async def script(seen: Any, writer: Any) -> None:
        if seen.verb == "POST":
            asked.append(seen)
            writer.write(STREAM + b"id: a1\nretry: 100\ndata: \n\n")
        else:
            came.append((seen.headers["last-event-id"], time.monotonic()))
            done = len(came) == 6
            writer.write(STREAM + (event(answer(asked[0]), "a9") if done else f"id: b{len(came)}\ndata: \n\n".encode()))
        writer.close()

    server = await scripted(script, era="legacy")
    link = await connect(server.url)
    started = time.monotonic()
    assert json.loads((await link.connection.request(*CALL)).result) == {"ok": True}
    assert [last_id for last_id, _ in came] == ["a1", "b1", "b2", "b3", "b4", "b5"]
    assert came[0][1] - started >= 0.1
    assert len(asked) == 1


async def test_resuming_gives_up_when_nothing_new_comes(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(STREAM + b"id: a1\nretry: 10\ndata: \n\n")
        writer.close()

    server = await scripted(script, era="legacy")
    link = await connect(server.url)
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL)
    assert len(server.of("GET")) == 3
    assert len(server.of("tools/call")) == 1


async def test_a_stream_that_cannot_be_resumed_leaves_the_outcome_unknown(scripted: Any, connect: Any) -> None:
    server = await scripted(streams(event("", "a1", 1)), era="legacy")
    link = await connect(server.url)
    with pytest.raises(OutcomeUnknown, match="cannot be resumed: HTTP 405"):
        await link.connection.request(*CALL)


async def test_only_the_calls_own_increasing_progress_is_passed_on(scripted: Any, connect: Any) -> None:
    def progress(token: Any, value: Any) -> bytes:
        params = {"progressToken": token, "progress": value}
        return event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    told: list[float] = []

    class Back:
        def notify(self, method: str, params: bytes) -> None:
            told.append(json.loads(params)["progress"])

        async def ask(self, method: str, params: bytes) -> bytes:
            raise AssertionError

    def own(value: Any) -> Any:
        return lambda seen: progress(seen.message["params"]["_meta"]["progressToken"], value)

    parts = (own(1), progress("agents", 2), progress(999, 3), own(1), own(0.5), own("x"), own(4))
    link = await connect((await scripted(streams(*parts, lambda seen: event(answer(seen))))).url)
    exchange = Exchange(Agent(Principal("t"), "modern", "2026-07-28"), "tools/call", Back(), progress_token=b'"agents"')
    assert (await link.connection.request(*CALL, exchange=exchange)).result
    assert told == [1, 4]


async def test_a_request_on_a_modern_stream_is_not_answered(scripted: Any, connect: Any) -> None:
    ask = event({"jsonrpc": "2.0", "id": 1, "method": "roots/list"})
    server = await scripted(streams(ask, lambda seen: event(answer(seen))))
    link = await connect(server.url)
    assert (await link.connection.request(*CALL)).result
    await asyncio.sleep(0.05)
    assert len(server.seen) == 2
    assert link.connection._session.unexpected.counts.total() == 1


async def test_a_legacy_servers_requests_are_answered_with_their_own_ids(scripted: Any, connect: Any) -> None:
    asked = event({"jsonrpc": "2.0", "id": "p", "method": "ping"}) + event(
        {"jsonrpc": "2.0", "id": 5, "method": "sampling/createMessage", "params": {}}
    )
    replies: list[dict[str, Any]] = []

    async def script(seen: Any, writer: Any) -> None:
        if seen.method == "tools/call":
            writer.write(STREAM + asked)
            await writer.drain()
            while len(replies) < 2:
                await asyncio.sleep(0.01)
            writer.write(event(answer(seen)))
            writer.close()
        else:
            replies.append(seen.message)
            writer.write(http(202))

    link = await connect((await scripted(script, era="legacy")).url)
    assert (await link.connection.request(*CALL)).result
    by_id = {reply["id"]: reply for reply in replies}
    assert by_id["p"]["result"] == {}
    assert by_id[5]["error"]["code"] == -32601


# -- cancelling ----------------------------------------------------------------------------------------------------


async def hanging(seen: Any, writer: Any) -> None:
    if seen.method == "tools/call":
        await asyncio.sleep(30)
    writer.write(http(202))


async def cancel(link: Any, server: Any) -> None:
    call = asyncio.create_task(link.connection.request(*CALL))
    await server.until("tools/call")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_cancelling_a_legacy_call_names_the_request(scripted: Any, connect: Any) -> None:
    server = await scripted(hanging, era="legacy")
    link = await connect(server.url)
    await cancel(link, server)
    notice = await server.until("notifications/cancelled")
    assert notice.message["params"]["requestId"] == server.of("tools/call")[0].message["id"]


async def test_cancelling_a_modern_call_only_closes_its_stream(scripted: Any, connect: Any) -> None:
    closed = asyncio.Event()

    async def script(seen: Any, writer: Any) -> None:
        await seen.hang_up()
        closed.set()

    server = await scripted(script)
    link = await connect(server.url)
    await cancel(link, server)
    async with asyncio.timeout(1):
        await closed.wait()
    assert server.of("notifications/cancelled") == []


async def test_cancelling_does_not_wait_for_the_server(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        await asyncio.Event().wait()  # for ever

    server = await scripted(script, era="legacy")
    link = await connect(server.url)
    await cancel(link, server)
    await link.connection.close()


async def test_initialize_is_never_cancelled(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        if seen.method == "server/discover":
            writer.write(http(400))
        else:
            await asyncio.sleep(30)

    server = await scripted(script, era="none")
    link = await connect(server.url, opened=False)
    opening = asyncio.create_task(link.connection.open(None))
    await server.until("initialize")
    opening.cancel()
    await asyncio.sleep(0.1)
    assert server.of("notifications/cancelled") == []


# -- negotiation over HTTP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [http(400), http(404), http(405), http(406, "no", "text/plain"), http(500), http(200, "<p>", "text/html")],
    ids=lambda data: str(data[:16]),
)
async def test_a_status_without_a_modern_error_means_legacy(scripted: Any, connect: Any, refusal: bytes) -> None:
    async def script(seen: Any, writer: Any) -> None:
        if seen.method == "server/discover":
            writer.write(refusal)
        elif seen.method == "initialize":
            found = {"protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
            writer.write(http(200, json.dumps(answer(seen, found))))
        else:
            writer.write(http(202))

    server = await scripted(script, era="none")
    link = await connect(server.url)
    assert link.connection.info.era == "legacy"
    initialize, initialized = server.of("initialize")[0], server.seen[-1]
    assert "mcp-protocol-version" not in initialize.headers
    assert "mcp-method" not in initialize.headers
    assert initialized.headers["mcp-protocol-version"] == "2025-03-26"


async def test_a_modern_error_in_a_400_is_no_reason_to_fall_back(scripted: Any, connect: Any) -> None:
    body = json.dumps(
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32022, "message": "", "data": {"supported": ["2030-01-01"]}}}
    )
    server = await scripted(says(http(400, body)), era="none")
    link = await connect(server.url, opened=False)
    with pytest.raises(RpcError):
        await link.connection.open(None)
    assert [seen.method for seen in server.seen] == ["server/discover"]


async def test_a_session_id_goes_with_everything_but_initialize(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(http(200, json.dumps(answer(seen))) if seen.body else http(405))

    server = await scripted(script, era="legacy", session="visible-ascii")
    link = await connect(server.url)
    await server.until("GET")
    await link.connection.request(*CALL)
    await link.connection.request(*CALL)
    await link.connection.close()
    assert "mcp-session-id" not in server.of("initialize")[0].headers
    others = [seen for seen in server.seen if seen.method not in ("server/discover", "initialize")]
    assert [seen.method or seen.verb for seen in others if seen.verb != "GET"] == [
        "notifications/initialized",
        "tools/call",
        "tools/call",
        "DELETE",
    ]
    assert {seen.headers.get("mcp-session-id") for seen in others} == {"visible-ascii"}


# -- messages that readers take for different ones -----------------------------------------------------------------

MALFORMED = {
    "no UTF-8": b'{"jsonrpc":"2.0","id":%d,"result":{"text":"\xff"}}',
    "no UTF-8 in the method": b'{"jsonrpc":"2.0","id":%d,"method":"\xff"}',
    "id twice": b'{"jsonrpc":"2.0","id":987,"result":{},"id":%d}',
    "result twice": b'{"jsonrpc": "2.0", "id": %d, "result": {}, "result": {"a": 1}}',
    "result and error": b'{"jsonrpc":"2.0","id":%d,"result":{},"error":{"code":1,"message":""}}',
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_answer_costs_its_call_alone(scripted: Any, connect: Any, what: str) -> None:
    async def script(seen: Any, writer: Any) -> None:
        good = seen.message["params"]["name"] == "good"
        writer.write(http(200, json.dumps(answer(seen)) if good else MALFORMED[what] % seen.message["id"]))

    link = await connect((await scripted(script)).url)
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL)
    reply = await link.connection.request("tools/call", {"name": "good", "arguments": {}})
    assert json.loads(reply.result) == {"ok": True}


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_event_costs_no_answer_on_its_stream(scripted: Any, connect: Any, what: str) -> None:
    noise = b"data: " + MALFORMED[what] % 987 + b"\n\n"
    server = await scripted(streams(noise, lambda seen: event(answer(seen))))
    reply = await (await connect(server.url)).connection.request(*CALL)
    assert json.loads(reply.result) == {"ok": True}


class Endless:
    """A response whose body repeats one chunk."""

    def __init__(self, chunk: bytes) -> None:
        self._chunk = chunk

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return self._chunk


FLOODS = {
    "line ends of one kind": b"\r" * 16 * 1024,
    "comments": b": " + b"x" * 64 * 1024 + b"\n",
    "other fields": b"other: " + b"x" * 64 * 1024 + b"\n",
    "other events": b"event: other\ndata: " + b"x" * 64 * 1024 + b"\n\n",
}


@pytest.mark.parametrize("chunk", FLOODS.values(), ids=FLOODS.keys())
async def test_a_stream_of_what_is_no_message_is_noise(chunk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.upstream.messages.noise.PATIENCE", 0.2)
    unexpected = UnexpectedMessages("n")
    reading = read_events(cast(ClientResponse, Endless(chunk)), EventParser(1024 * 1024), lambda _: False, unexpected)
    with pytest.raises(Noisy):
        await asyncio.wait_for(reading, 60)


async def test_a_large_event_that_comes_in_pieces_is_no_noise() -> None:
    unexpected = UnexpectedMessages("n")
    data = b"x" * 15 * 1024 * 1024
    parser, seen = EventParser(16 * 1024 * 1024), []
    event = b"data: " + data + b"\n\n"
    pieces = iter([event[start : start + 65536] for start in range(0, len(event), 65536)])

    class Pieces:
        async def read(self) -> bytes | None:
            return next(pieces, None)

    def take(message: bytes) -> bool:
        seen.append(message)
        return False

    assert not await read_events(cast(ClientResponse, Pieces()), parser, take, unexpected)
    assert seen == [data]
    assert unexpected.noise.pause() == 0
    assert not unexpected.counts
