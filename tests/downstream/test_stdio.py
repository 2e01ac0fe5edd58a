"""One agent over stdin and stdout: lines, both eras, cancellation, the end of stdin."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway_core.config import LimitsConfig, ProxyConfig
from gateway_core.downstream.stdio import StdioServer
from gateway_core.mcp.decoder import decode_request

META = "io.modelcontextprotocol/"


class Peer:
    def __init__(
        self, pipeline: Any, catalog: Any, server: StdioServer, to: int, answers: asyncio.StreamReader
    ) -> None:
        self.pipeline = pipeline
        self.catalog = catalog
        self.server = server
        self._to: int | None = to
        self._answers = answers
        self.running = asyncio.ensure_future(server.run())

    def send(self, body: Any) -> None:
        assert self._to is not None
        os.write(self._to, (body if isinstance(body, bytes) else json.dumps(body).encode()) + b"\n")

    async def read(self) -> Any:
        line = await asyncio.wait_for(self._answers.readline(), 5)
        return json.loads(line) if line else None

    async def ask(self, body: Any) -> Any:
        self.send(body)
        return await self.read()

    def hang_up(self) -> None:
        if self._to is not None:
            os.close(self._to)
            self._to = None


@asynccontextmanager
async def connected(
    helpers: Any, ended: list[str] | None = None, counted: list[bool] | None = None, **settings: Any
) -> AsyncIterator[Peer]:
    limits = LimitsConfig(**settings.pop("limits", {}))
    downstream, pipeline, catalog = helpers.downstream(ProxyConfig(limits=limits, **settings), ended, counted)
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    answers = asyncio.StreamReader(limit=32 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(answers), os.fdopen(out_read, "rb", buffering=0)
    )
    peer = Peer(pipeline, catalog, downstream.stdio_server(in_read, out_write), in_write, answers)
    try:
        yield peer
    finally:
        peer.hang_up()
        peer.running.cancel()
        await asyncio.gather(peer.running, return_exceptions=True)
        os.close(in_read)
        os.close(out_write)
        transport.close()


@pytest.fixture
async def peer(helpers: Any) -> AsyncIterator[Peer]:
    async with connected(helpers, drain_timeout=1.0) as peer:
        yield peer


def call(name: str, request_id: Any = 1, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments, "_meta": {"progressToken": 5}}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


def ping(request_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": "ping"}


async def test_a_legacy_conversation(peer: Peer, helpers: Any) -> None:
    assert (await peer.ask(helpers.initialize()))["result"]["protocolVersion"] == "2025-11-25"
    peer.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    answer = await peer.ask(call("echo", "a", text="line\n\u2028"))
    assert json.loads(answer["result"]["content"][0]["text"]) == {"text": "line\n\u2028"}
    assert peer.pipeline.exchanges[0].agent.principal.id == "tester@stdio"
    peer.catalog.change("tools")
    assert (await peer.read())["method"] == "notifications/tools/list_changed"


async def test_a_batch_is_answered_message_by_message(peer: Peer, helpers: Any) -> None:
    assert (await peer.ask([ping()]))["error"]["code"] == -32600, "no revision is negotiated"
    await peer.ask(helpers.initialize(version="2025-03-26"))
    peer.send([{"jsonrpc": "2.0", "method": "notifications/initialized"}, call("echo", 1), ping(2)])
    assert {(await peer.read())["id"] for _ in range(2)} == {1, 2}
    for refused in ([], [ping(3), {}], [ping(4)] * 101, json.dumps([ping(6)])[:-1].encode(), [helpers.initialize()]):
        answer = await peer.ask(refused)
        assert answer["error"]["code"] == (-32700 if isinstance(refused, bytes) else -32600)
        assert "id" not in answer
    assert (await peer.ask(ping(5)))["id"] == 5


async def test_batches_of_other_revisions_are_refused(peer: Peer, helpers: Any) -> None:
    await peer.ask(helpers.initialize())
    assert (await peer.ask([ping()]))["error"]["code"] == -32600


async def test_empty_params_and_ids_are_tolerated(peer: Peer, helpers: Any) -> None:
    await peer.ask(helpers.initialize())
    for params in (None, []):
        peer.send({"jsonrpc": "2.0", "id": None, "method": "notifications/initialized", "params": params})
        assert (await peer.ask({**ping(), "params": params}))["result"] == {}


async def test_modern_requests_stand_alone(peer: Peer, helpers: Any) -> None:
    assert (await peer.ask(helpers.modern("server/discover")[1]))["result"]["instructions"] == "hello modern"
    answer = await peer.ask(helpers.modern("tools/call", {"name": "echo"}, "x")[1])
    assert answer["id"] == "x"
    assert peer.pipeline.exchanges[0].agent.era == "modern"
    assert (await peer.ask(helpers.modern("ping")[1]))["error"]["code"] == -32601
    assert (await peer.ask(helpers.modern("tools/list", version="1900-01-01")[1]))["error"]["code"] == -32022
    unasked = await peer.ask(helpers.modern("tools/call", {"name": "ask"})[1])
    assert unasked["error"]["code"] == -32601


async def test_both_eras_on_one_channel(peer: Peer, helpers: Any) -> None:
    await peer.ask(helpers.initialize())
    await peer.ask(helpers.modern("tools/call", {"name": "echo"})[1])
    await peer.ask(call("echo"))
    assert [exchange.agent.era for exchange in peer.pipeline.exchanges] == ["modern", "legacy"]


async def test_a_bare_probe_and_early_requests_get_errors(peer: Peer) -> None:
    assert (await peer.ask({"jsonrpc": "2.0", "id": 1, "method": "server/discover"}))["error"]["code"] == -32602
    assert (await peer.ask(call("echo")))["error"]["code"] == -32600


@pytest.mark.parametrize("line", [b"{oops", b"[]", b"\xff\xfe", b'{"jsonrpc":"2.0"}', b"5"])
async def test_a_bad_line_is_answered_without_an_id_and_the_next_is_served(peer: Peer, line: bytes) -> None:
    answer = await peer.ask(line)
    assert answer["error"]["code"] in {-32700, -32600}
    assert "id" not in answer
    assert (await peer.ask(ping(2)))["id"] == 2


async def test_blank_lines_and_carriage_returns_do_no_harm(peer: Peer) -> None:
    peer.send(b"\r\n\n   ")
    assert (await peer.ask(json.dumps(ping(3)).encode() + b"\r"))["id"] == 3


async def test_a_line_that_is_too_long_is_skipped(helpers: Any) -> None:
    async with connected(helpers, limits={"request_body": 1000}) as peer:
        peer.send(b"x" * 5000)
        assert (await peer.read())["error"]["code"] == -32600
        assert (await peer.ask(ping(2)))["id"] == 2


async def test_another_configuration_bounds_the_lines_that_come_from_now_on(helpers: Any) -> None:
    async with connected(helpers, limits={"request_body": 1000}) as peer:
        assert (await peer.ask(ping(1)))["id"] == 1
        peer.server.use(ProxyConfig(limits=LimitsConfig(request_body=10)))
        assert (await peer.ask(ping(2)))["error"]["message"] == "a line is longer than 10 bytes"
        peer.server.use(ProxyConfig())
        assert (await peer.ask(ping(3)))["id"] == 3


async def test_requests_run_at_once(peer: Peer, helpers: Any) -> None:
    await peer.ask(helpers.initialize())
    peer.send(call("nap", 1))
    assert (await peer.ask(call("echo", 2)))["id"] == 2
    peer.pipeline.released.set()
    assert (await peer.read())["id"] == 1


async def test_requests_in_flight_are_bounded(helpers: Any) -> None:
    async with connected(helpers, limits={"in_flight": 1}) as peer:
        await peer.ask(helpers.initialize())
        peer.send(call("nap", 1))
        assert (await peer.ask(call("echo", 2)))["error"]["code"] == -31005
        peer.pipeline.released.set()
        assert (await peer.read())["id"] == 1


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_cancelled_request_is_not_answered(peer: Peer, helpers: Any, era: str) -> None:
    await peer.ask(helpers.initialize())
    peer.send(call("sleep", 7) if era == "legacy" else helpers.modern("tools/call", {"name": "sleep"}, 7)[1])
    assert (await peer.ask(call("echo", 7)))["error"]["code"] == -32600  # the id is in use
    for request_id in ("7", 7):
        peer.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}})
    assert (await peer.ask(ping(8)))["id"] == 8
    await asyncio.wait_for(peer.pipeline.cancelled.wait(), 1)


async def test_questions_and_answers_share_the_channel(peer: Peer, helpers: Any) -> None:
    await peer.ask(helpers.initialize())
    question = await peer.ask(call("ask", "q"))
    answer = await peer.ask({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "cancel"}})
    assert answer["id"] == "q"


async def test_listening(peer: Peer, helpers: Any) -> None:
    first, second = (
        helpers.modern("subscriptions/listen", {"notifications": {f"{kind}ListChanged": True}}, kind)[1]
        for kind in ("tools", "prompts")
    )
    assert (await peer.ask(first))["params"]["_meta"][f"{META}subscriptionId"] == "tools"
    assert (await peer.ask(second))["params"]["_meta"][f"{META}subscriptionId"] == "prompts"
    again = await peer.ask(helpers.modern("tools/list", request_id="tools")[1])
    assert again["error"]["code"] == -32600  # the id is in use
    peer.catalog.change("tools")
    changed = await peer.read()
    assert changed["method"] == "notifications/tools/list_changed"
    assert changed["params"]["_meta"][f"{META}subscriptionId"] == "tools"
    peer.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "tools"}})
    await peer.ask(ping())
    peer.catalog.change("tools", "prompts")
    assert (await peer.read())["params"]["_meta"][f"{META}subscriptionId"] == "prompts"
    peer.server.stop()
    ended = await peer.read()
    assert ended["id"] == "prompts"
    assert ended["result"]["resultType"] == "complete"
    await asyncio.wait_for(peer.running, 5)
    assert not peer.catalog.listeners


async def test_the_end_of_stdin_lets_calls_finish(helpers: Any) -> None:
    ended: list[str] = []
    async with connected(helpers, ended, drain_timeout=5.0) as peer:
        await peer.ask(helpers.initialize())
        peer.send(call("nap", 1))
        await peer.pipeline.started.wait()
        peer.hang_up()
        await asyncio.sleep(0.1)
        assert not peer.running.done()
        peer.pipeline.released.set()
        assert (await peer.read())["id"] == 1
        await asyncio.wait_for(peer.running, 5)
    assert len(ended) == 1


async def test_the_end_of_stdin_is_the_end_of_questions(helpers: Any) -> None:
    async with connected(helpers, drain_timeout=60.0) as peer:
        await peer.ask(helpers.initialize())
        question = await peer.ask(call("ask", 1))
        assert question["method"] == "elicitation/create"
        peer.hang_up()
        assert (await peer.read())["id"] == 1, "the call goes on without the answer"
        await asyncio.wait_for(peer.running, 5)


async def test_calls_that_do_not_finish_in_time_are_cancelled(helpers: Any) -> None:
    async with connected(helpers, drain_timeout=0.2) as peer:
        await peer.ask(helpers.initialize())
        peer.send(call("sleep", 1))
        await peer.pipeline.started.wait()
        peer.hang_up()
        await asyncio.wait_for(peer.running, 5)
        assert peer.pipeline.cancelled.is_set()


async def test_an_agent_that_does_not_read_holds_up_only_itself(helpers: Any) -> None:
    async with connected(helpers, drain_timeout=0.2) as peer:
        await peer.ask(helpers.initialize())
        for number in range(3):
            peer.send(call("big", number, bytes=3_000_000))
        answers = [await peer.read() for _ in range(3)]
        assert sorted(answer["id"] for answer in answers) == [0, 1, 2]


async def test_files_serve_as_well_as_pipes(helpers: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    lines = [helpers.initialize(), call("echo", 1), ping(2)]
    source.write_text("\n".join(json.dumps(line) for line in lines))  # the last without its newline
    downstream, _, _ = helpers.downstream(ProxyConfig(drain_timeout=5.0))
    with source.open("rb") as stdin, target.open("wb") as stdout:
        await asyncio.wait_for(downstream.stdio_server(stdin.fileno(), stdout.fileno()).run(), 5)
    answers = [json.loads(line) for line in target.read_text().splitlines()]
    assert sorted(answer["id"] for answer in answers) == [0, 1, 2]


async def test_a_bug_costs_one_answer_and_not_the_conversation(
    peer: Peer, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await peer.ask(helpers.initialize())
    real = decode_request

    def decode(line: bytes) -> Any:
        if b"boom" in line:
            raise ZeroDivisionError
        return real(line)

    def enter(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway_core.downstream.batch.decode_request", decode)
    answer = await peer.ask(b"boom")
    assert answer["error"]["code"] == -32603
    with monkeypatch.context() as patch:
        patch.setattr("gateway_core.downstream.calls.gate.Gate.enter", enter)
        answer = await peer.ask(call("echo", 2))
    assert (answer["id"], answer["error"]["code"]) == (2, -32603)
    assert (await peer.ask(ping(3)))["id"] == 3


async def test_a_call_that_ends_in_an_exception_is_answered(
    peer: Peer, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    await peer.ask(helpers.initialize())
    monkeypatch.setattr(peer.pipeline, "call", fail)
    answer = await peer.ask(call("echo", 4))
    assert (answer["id"], answer["error"]["code"]) == (4, -32603)


async def test_a_reader_that_breaks_is_an_error(helpers: Any, tmp_path: Path) -> None:
    downstream, _, catalog = helpers.downstream(ProxyConfig(drain_timeout=1.0))
    folder = os.open(tmp_path, os.O_RDONLY)  # cannot be read like a file
    with (tmp_path / "out").open("wb") as stdout, pytest.raises(IsADirectoryError):
        await asyncio.wait_for(downstream.stdio_server(folder, stdout.fileno()).run(), 5)
    os.close(folder)
    assert not catalog.listeners


async def test_the_session_of_the_channel_is_not_counted_and_ends_once(helpers: Any) -> None:
    ended: list[str] = []
    counted: list[bool] = []
    async with connected(helpers, ended, counted) as peer:
        assert "result" in await peer.ask(helpers.initialize())
        peer.hang_up()
        await peer.running
    assert len(ended) == 1
    assert counted == []
