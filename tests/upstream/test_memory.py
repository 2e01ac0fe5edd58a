"""Large answers of servers count against the memory budget while they arrive, and are given back at every end."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import OutcomeUnknown
from gateway_core.limits.accounts import Account
from gateway_core.limits.budget import COPIES, MemoryBudget
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.transports.stdio import StdioConnection

SIZE = 1_000_000
HALF = SIZE // 2
CALL = ("tools/call", {"name": "large", "arguments": {}})
SMALL = ("tools/call", {"name": "small", "arguments": {}})
MB = 1024 * 1024
ROOM = 200 * MB
OWNER = "upstream fixture"
NO_ROOM = "does not fit into the gateway's memory"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
HEADS = {
    "length": JSON + b"Content-Length: %d\r\n\r\n",
    "until close": JSON + b"Connection: close\r\n\r\n",
    "events": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
}


def body_of(number: int, size: int) -> bytes:
    content = [{"type": "text", "text": "x" * size}]
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": {"content": content}}, separators=(",", ":")).encode()


class Halfway:
    """Where a server stops in the middle of its large answers, until the test says how to go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.goes_on: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def script(self, form: str) -> Any:
        async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
            if seen.method != "tools/call":
                writer.write(b"HTTP/1.1 405 X\r\nContent-Length: 0\r\n\r\n")
                return
            large = seen.message["params"]["name"] == "large"
            body = body_of(seen.message["id"], SIZE if large else 10)
            data = (b"data: %b\n\n" % body) if form == "events" else body
            writer.write(HEADS[form] % len(body) if form == "length" else HEADS[form])
            if large:
                writer.write(data[:HALF])
                await writer.drain()
                self.reached.set()
                if not await asyncio.shield(self.goes_on):
                    writer.close()
                    return
                data = data[HALF:]
            writer.write(data)
            await writer.drain()
            if form != "length":
                writer.close()

        return script


SERVER = """
import json, pathlib, sys, time
halfway = pathlib.Path(sys.argv[1])
def send(number, result):
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}, separators=(",", ":"))
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "initialize":
        info = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
        print(send(message["id"], info), flush=True)
    elif message["method"] == "tools/call":
        large = message["params"]["name"] == "large"
        data = send(message["id"], {"content": [{"type": "text", "text": "x" * (SIZE if large else 10)}]})
        if large:
            sys.stdout.write(data[:SIZE // 2])
            sys.stdout.flush()
            while not halfway.exists() or not halfway.read_text():
                time.sleep(0.01)
            if halfway.read_text() == "end":
                sys.exit(1)
            data = data[SIZE // 2:]
        print(data, flush=True)
""".replace("SIZE", str(SIZE))


class Case:
    """A connection to one upstream, and the budget that it counts against."""

    def __init__(
        self,
        connection: Any,
        budget: MemoryBudget,
        reached: Callable[[], Awaitable[None]],
        go_on: Callable[[bool], object],
    ) -> None:
        self.connection = connection
        self.budget = budget
        self.reached = reached
        self.go_on = go_on

    @property
    def held(self) -> int:
        return self.budget.held_by(OWNER)

    async def begun(self) -> asyncio.Task[Any]:
        """A call whose large answer has arrived by half."""
        call = asyncio.create_task(self.connection.request(*CALL))
        await self.reached()
        async with asyncio.timeout(30):
            while self.held < HALF:
                await asyncio.sleep(0.01)
        assert self.held <= 2 * SIZE * COPIES
        return call


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> MemoryBudget:
    monkeypatch.setattr("gateway_core.limits.budget.trim", lambda: None)
    return MemoryBudget(ROOM, lambda: 0)


@pytest.fixture(params=["length", "until close", "events", "stdio"])
async def case(request: Any, budget: MemoryBudget, scripted: Any, connect: Any, tmp_path: Path) -> Any:
    account = Account(budget, OWNER)
    if request.param == "stdio":
        (tmp_path / "server.py").write_text(SERVER)
        halfway = tmp_path / "halfway"
        args = (str(tmp_path / "server.py"), str(halfway))
        config = UpstreamConfig(name="fixture", transport="stdio", command=sys.executable, args=args)
        connection = StdioConnection(config, LimitsConfig(), ClientContext(lambda *_: None, account=account))
        await connection.open("legacy")

        async def begun() -> None:
            pass

        yield Case(connection, budget, begun, lambda goes_on: halfway.write_text("on" if goes_on else "end"))
        await connection.close()
        return
    at = Halfway()
    link = await connect((await scripted(at.script(request.param))).url, account=account)
    yield Case(link.connection, budget, at.reached.wait, at.goes_on.set_result)  # type: ignore[arg-type]
    if not at.goes_on.done():
        at.goes_on.set_result(False)


async def test_a_large_answer_is_counted_until_it_is_read(case: Case) -> None:
    call = await case.begun()
    case.go_on(True)
    reply = await call
    assert len(reply.result) > SIZE
    assert case.held == 0


async def test_an_answer_that_breaks_off_is_given_back(case: Case) -> None:
    call = await case.begun()
    case.go_on(False)
    with pytest.raises(OutcomeUnknown):
        await call
    await asyncio.sleep(0)
    assert case.held == 0


async def test_the_answer_to_a_cancelled_call_is_given_back(case: Case) -> None:
    call = await case.begun()
    call.cancel()
    await asyncio.wait([call])
    case.go_on(False)
    async with asyncio.timeout(30):
        while case.held:
            await asyncio.sleep(0.01)


async def test_an_answer_that_does_not_fit_ends_its_call_alone(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.upstream.transports.answers.ROOM_WAIT", 0.5)
    for number in range(4):
        case.budget.keep(f"owner {number}", 45 * MB - 100_000)
    call = asyncio.create_task(case.connection.request(*CALL))
    await case.reached()
    await asyncio.sleep(0.1)
    case.go_on(True)
    with pytest.raises(OutcomeUnknown, match=NO_ROOM):
        await call
    assert case.held == 0
    reply = await case.connection.request(*SMALL)
    assert b"xxxxxxxxxx" in reply.result
    assert not case.connection.closed


@pytest.mark.parametrize("case", ["length", "until close"], indirect=True)
async def test_an_answer_waits_for_room(case: Case) -> None:
    for number in range(4):
        case.budget.keep(f"owner {number}", 45 * MB - 100_000)
    call = asyncio.create_task(case.connection.request(*CALL))
    await case.reached()
    case.go_on(True)
    await asyncio.sleep(0.2)
    assert not call.done()
    case.budget.drop("owner 0", 45 * MB - 100_000)
    reply = await call
    assert len(reply.result) > SIZE
    assert case.held == 0


@pytest.mark.parametrize("form", ["length", "until close"])
async def test_of_many_answers_beyond_the_share_all_arrive(
    form: str, monkeypatch: pytest.MonkeyPatch, scripted: Any, connect: Any
) -> None:
    """Each has arrived by half when none has room for the rest."""
    monkeypatch.setattr("gateway_core.limits.budget.trim", lambda: None)
    budget = MemoryBudget(50 * MB, lambda: 0)
    arrived: list[bool] = []
    half = asyncio.Event()

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        body = body_of(seen.message["id"], SIZE)
        writer.write(HEADS[form] % len(body) if form == "length" else HEADS[form])
        writer.write(body[:HALF])
        await writer.drain()
        arrived.append(True)
        if len(arrived) == 8:
            half.set()
        await half.wait()
        await asyncio.sleep(0.1)
        writer.write(body[HALF:])
        await writer.drain()
        if form != "length":
            writer.close()

    link = await connect((await scripted(script)).url, account=Account(budget, OWNER))
    replies = await asyncio.gather(*(link.connection.request(*CALL) for _ in range(8)))
    assert all(len(reply.result) > SIZE for reply in replies)
    assert budget.held_by(OWNER) == 0


@pytest.mark.parametrize("case", ["length"], indirect=True)
async def test_an_answer_that_can_never_fit_does_not_wait(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.upstream.transports.answers.ROOM_WAIT", 10**6)
    monkeypatch.setattr("gateway_core.limits.accounts.SHARE", 0.001)
    monkeypatch.setattr("gateway_core.limits.budget.SHARE", 0.001)
    call = asyncio.create_task(case.connection.request(*CALL))
    await case.reached()
    with pytest.raises(OutcomeUnknown, match=NO_ROOM):
        await call


async def test_small_answers_are_not_counted(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryBudget, "reserve", None)
    reply = await case.connection.request(*SMALL)
    assert b"xxxxxxxxxx" in reply.result
