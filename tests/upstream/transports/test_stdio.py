"""The stdio transport under every fault that a child process can have."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.api import Principal
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.deadlines import Deadlines
from gateway_core.inline.driver import InlineCall
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.process import child as child_module
from gateway_core.upstream.transports.negotiation import negotiate
from gateway_core.upstream.transports.stdio import Lines, StdioConnection, TooLong

SERVERS = Path(__file__).parents[1] / "servers"
LIMIT = 200_000


def make(*args: str, limit: int = LIMIT, **values: object) -> StdioConnection:
    settings = {"command": sys.executable, "args": (str(SERVERS / "faulty.py"), *args), **values}
    config = UpstreamConfig(name="server", transport="stdio", **settings)
    return StdioConnection(
        config, LimitsConfig(response_body=limit), ClientContext(lambda method, params, exchange: None)
    )


@pytest.fixture
async def faulty() -> AsyncIterator[StdioConnection]:
    connection = make()
    await connection.open("legacy")
    yield connection
    await connection.close()


async def call(connection: StdioConnection, tool: str, /, **arguments: object) -> dict:
    reply = await connection.request("tools/call", {"name": tool, "arguments": arguments})
    assert reply.error is None, reply.error
    return json.loads(reply.result)


def runs(pid: int) -> bool:
    """Whether a process is alive; one that waits to be reaped is not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.strip().startswith("Z")


async def gone_within(seconds: float, *pids: int) -> bool:
    end = time.monotonic() + seconds
    while any(runs(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True


# Death


async def test_killed_child_ends_all_calls(faulty: StdioConnection) -> None:
    bystanders = [asyncio.create_task(call(faulty, "silent")) for _ in range(3)]
    await asyncio.sleep(0)  # they send
    await call(faulty, "echo")  # after them, so they have arrived
    with pytest.raises(OutcomeUnknown, match="ended by SIGKILL"):
        await call(faulty, "die")
    ends = await asyncio.gather(*bystanders, return_exceptions=True)
    assert [type(end) for end in ends] == [OutcomeUnknown] * 3, ends
    assert faulty.closed
    assert await faulty.wait_closed() == "was ended by SIGKILL"


async def test_agents_get_the_exit_status_and_operators_the_last_line_of_stderr_without_secrets() -> None:
    connection = make(env={"TOKEN": "s3cr3t-value", "FLAG": "1"})
    await connection.open("legacy")
    with pytest.raises(OutcomeUnknown) as caught:
        await call(connection, "exit", status=3, words="bad token s3cr3t-value\x1b[31m at 1")
    assert caught.value.reason == "the server exited with status 3"
    assert connection.last_words == r"last words: bad token [REDACTED]\x1b[31m at 1"
    await connection.close()


async def test_an_answer_written_right_before_the_exit_arrives(
    faulty: StdioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.process.child.HANGUP_GRACE", 30.0)  # a busy machine ends it slowly
    assert await call(faulty, "answer_and_exit") == {"tool": "answer_and_exit"}
    assert await faulty.wait_closed() == "exited with status 0"


@pytest.mark.parametrize(("elsewhere", "stubborn"), [(False, False), (False, True), (True, False)])
async def test_death_is_noticed_while_a_grandchild_holds_the_pipe(
    faulty: StdioConnection, tmp_path: Path, elsewhere: bool, stubborn: bool
) -> None:
    file = tmp_path / "pid"
    with pytest.raises(OutcomeUnknown):
        await call(faulty, "orphan", file=str(file), elsewhere=elsewhere, stubborn=stubborn)
    grandchild = int(file.read_text())
    if elsewhere:
        os.killpg(grandchild, signal.SIGKILL)
    assert await gone_within(1, grandchild)


async def test_a_closed_stdout_ends_the_connection(faulty: StdioConnection) -> None:
    with pytest.raises(OutcomeUnknown, match="closed its stdout"):
        await call(faulty, "close_stdout")


async def test_a_call_after_the_server_closed_its_stdin_is_not_sent(faulty: StdioConnection) -> None:
    await call(faulty, "close_stdin")
    child = faulty._child
    assert child is not None
    async with asyncio.timeout(10):
        while child.reads:
            await asyncio.sleep(0.001)
    exchange = Exchange(Agent(Principal("a"), "legacy", "2025-11-25"), "tools/call")
    with pytest.raises(NotSent, match="closed its stdin"):
        await faulty.request("tools/call", {"name": "echo"}, exchange=exchange)
    assert not exchange.sent


# Start


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"command": "no-such-command-here"}, "command not found in PATH="),
        ({"command": "/no/such/file"}, "no such executable file"),
        ({"command": "env -i server"}, "command not found in .*; command is one program; put the rest into args"),
        ({"command": "env -y @scope/server"}, "no such executable file; command is one program; put the rest"),
        ({"command": "no-such-command here"}, "command not found in PATH=[^;]*$"),
        ({"cwd": "/no/such/folder"}, "working directory '/no/such/folder' does not exist"),
    ],
)
async def test_what_cannot_be_started_is_not_sent(values: dict, text: str) -> None:
    connection = make(**values)
    with pytest.raises(NotSent, match=text):
        await connection.open(None)
    assert connection.closed
    await connection.close()


async def test_a_file_that_cannot_be_executed_is_not_sent(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"\x7fELFnot really")
    script.chmod(0o755)
    connection = make(command=str(script))
    with pytest.raises(NotSent, match=r"could not be run: .*format"):
        await connection.open("legacy")
    await connection.close()


async def test_a_server_that_exits_at_once_is_not_sent_and_says_why() -> None:
    connection = make("exit")
    with pytest.raises(NotSent, match=r"exited with status 3"):
        await connection.open("legacy")
    assert connection.last_words == "ModuleNotFoundError: no module named 'x'"
    await connection.close()


async def test_a_legacy_server_that_dies_of_the_probe_is_started_again() -> None:
    connection = make("shy")
    async with asyncio.timeout(15):
        info = await connection.open(None)
    assert info.era == "legacy"
    assert (await call(connection, "echo"))["tool"] == "echo"
    await connection.close()


@pytest.mark.parametrize(
    "before",
    [
        r"\xef\xbb\xbf",
        r"Welcome to the server! ",
        r"\x1b[32mready\x1b[0m> ",
        r"\xef\xbb\xbfWelcome\nto {the} server {\"id\": 1}\n\n",
        r"got {\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"server/discover\"}\n",
    ],
)
@pytest.mark.parametrize("discover", ["modern", "-32601"])
async def test_what_a_server_prints_before_its_first_message_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: str, discover: str
) -> None:
    monkeypatch.setitem(negotiate.__kwdefaults__, "probe_timeout", 60.0)
    log = tmp_path / "log"
    connection = make(args=(str(SERVERS / "odd.py"), "--log", str(log), "--before", before, "--discover", discover))
    async with asyncio.timeout(20):
        info = await connection.open(None)
        assert (await connection.request("ping", {})).error is None or info.era == "modern"
    assert info.era == ("modern" if discover == "modern" else "legacy")
    await connection.close()


async def test_a_message_waits_in_the_pipe_as_long_as_a_call_explains_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "WRITE_TIMEOUT", 0.2)
    connection = make(args=(str(SERVERS / "odd.py"),))
    await connection.open("legacy")
    exchange = Exchange(Agent(Principal("a"), "legacy", "2025-11-25"), "tools/call")
    calls = Deadlines()
    exchange.deadline = call = InlineCall(calls, coroutine=asyncio.sleep(0))
    call.move(asyncio.get_running_loop().time() + 30)
    call.begin()
    busy = {"name": "block", "arguments": {"seconds": 1.5}}
    big = {"name": "block", "arguments": {"seconds": 0, "text": "z" * 1_000_000}}
    calls: Deadlines = Deadlines()
    first = InlineCall(calls, coroutine=connection.request("tools/call", busy, exchange=exchange))
    exchange.deadline = first
    first.move(asyncio.get_running_loop().time() + 30)
    first.begin()
    first.step()
    await asyncio.sleep(0.1)
    second = asyncio.create_task(connection.request("tools/call", big))
    assert all(reply.error is None for reply in await asyncio.gather(first, second))
    call.step()
    call.end()
    await connection.close()


def test_a_child_that_is_gone_before_the_loop_looks_is_an_ordinary_failure() -> None:
    async def attempt() -> str:
        connection = make(command="false", args=())
        with pytest.raises(NotSent) as caught:
            await connection.open(None)
        await connection.close()
        return caught.value.reason

    async def body() -> None:
        reasons = await asyncio.gather(*(attempt() for _ in range(20)))
        assert set(reasons) == {"the server exited with status 1"}

    on_both_loops(body)


async def test_opening_can_be_cancelled_at_any_moment(tmp_path: Path) -> None:
    async def attempt(delay: float) -> bool:
        file = tmp_path / f"pids{delay}"
        connection = make("family", str(file))
        task = asyncio.create_task(connection.open("legacy"))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()
        await asyncio.sleep(0.2)
        return not file.exists() or await gone_within(5, *map(int, file.read_text().split()))

    assert all(await asyncio.gather(*map(attempt, (0, 0.005, 0.02, 0.05, 0.1, 0.3))))


# Environment


async def test_a_child_gets_the_allowlist_and_what_env_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("TERM", "() { :; }")
    connection = make(env={"API_KEY": "given"}, cwd=str(tmp_path))
    await connection.open("legacy")
    about = await call(connection, "environment")
    assert set(about["env"]) - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"} <= {*child_module.INHERITED, "API_KEY"}
    assert about["env"]["API_KEY"] == "given"
    assert "TERM" not in about["env"]
    assert about["fds"] == [0, 1, 2]
    assert Path(about["cwd"]) == tmp_path.resolve()
    assert about["session"] != os.getsid(0)
    await connection.close()


# Pipes


def on_both_loops(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(body())
    uvloop.run(body())


def test_a_child_that_stops_reading_is_given_up_and_blocks_no_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "WRITE_TIMEOUT", 0.6)
    monkeypatch.setattr(child_module, "STDIN_GRACE", 0.1)
    agent = Agent(Principal("a"), "legacy", "2025-11-25")

    async def body() -> None:
        connection = make()
        await connection.open("legacy")
        stopped = asyncio.create_task(call(connection, "stop"))
        await asyncio.sleep(0.1)
        big = {"text": "z" * 3_000_000}
        first = asyncio.create_task(connection.request("tools/call", {"name": "echo", "arguments": big}))
        await asyncio.sleep(0.05)
        exchange = Exchange(agent, "tools/call")
        second = asyncio.create_task(connection.request("tools/call", {"name": "echo"}, exchange=exchange))
        third = asyncio.create_task(connection.request("tools/call", {"name": "echo"}))
        turns = 0
        while not connection.closed:
            await asyncio.sleep(0.01)
            turns += 1
            if not third.done():
                third.cancel()
        ends = await asyncio.gather(stopped, first, second, third, return_exceptions=True)
        assert [type(end) for end in ends] == [OutcomeUnknown, OutcomeUnknown, NotSent, asyncio.CancelledError]
        assert not exchange.sent
        assert await connection.wait_closed() == "does not read its stdin"
        assert turns > 5, "the loop goes on while the pipe is full"
        await connection.close()

    on_both_loops(body)


def test_a_large_message_passes_through_a_small_pipe() -> None:
    async def body() -> None:
        connection = make(limit=8_000_000)
        await connection.open("legacy")
        texts = [str(number) * 1_000_000 for number in range(3)]
        answers = await asyncio.gather(*(call(connection, "echo", text=text) for text in texts))
        assert [answer["arguments"]["text"] for answer in answers] == texts
        await connection.close()

    on_both_loops(body)


async def test_only_one_message_at_a_time_waits_in_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "STDIN_GRACE", 0.1)
    connection = make()
    await connection.open("legacy")
    tasks = [asyncio.create_task(call(connection, "read_some", bytes=3_200_000))]
    await asyncio.sleep(0.1)
    exchanges = [Exchange(Agent(Principal("a"), "legacy", "2025-11-25"), "tools/call") for _ in range(3)]
    for exchange in exchanges:
        params = {"name": "echo", "arguments": {"text": "z" * 3_000_000}}
        tasks.append(asyncio.create_task(connection.request("tools/call", params, exchange=exchange)))
    async with asyncio.timeout(5):
        while not exchanges[1].sent:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert not exchanges[2].sent
    await connection.close()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [OutcomeUnknown, OutcomeUnknown, OutcomeUnknown, NotSent]


async def test_too_many_waiting_messages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.upstream.transports.stdio.MAX_QUEUED", 2)
    connection = make()
    await connection.open("legacy")
    tasks = [asyncio.create_task(call(connection, "stop"))]
    await asyncio.sleep(0.1)
    for size in (3_000_000, 1, 1, 1):
        tasks.append(asyncio.create_task(call(connection, "echo", text="z" * size)))
        await asyncio.sleep(0)
    with pytest.raises(NotSent, match="too many messages wait"):
        await tasks[-1]
    await connection.close()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [OutcomeUnknown, OutcomeUnknown, NotSent, NotSent, NotSent]


async def test_a_flood_on_stderr_is_drained(faulty: StdioConnection) -> None:
    assert (await call(faulty, "flood_stderr", megabytes=20))["tool"] == "flood_stderr"


@pytest.mark.parametrize("id_first", [True, False])
async def test_an_answer_past_the_limit_fails_its_call_at_once_and_no_other(
    faulty: StdioConnection, id_first: bool
) -> None:
    bystander = asyncio.create_task(call(faulty, "silent"))
    with pytest.raises(OutcomeUnknown, match=f"longer than {LIMIT} bytes"):
        await call(faulty, "long", bytes=LIMIT * 20, id_first=id_first)
    assert faulty.unexpected.counts["line longer than the limit"] == 1
    assert not bystander.done()
    assert (await call(faulty, "echo"))["tool"] == "echo"
    bystander.cancel()


async def test_a_32_mib_line_takes_no_time_worth_mentioning() -> None:
    connection = make(limit=64 * 1024 * 1024)
    await connection.open("legacy")
    used = time.process_time()
    answer = await call(connection, "long", bytes=32 * 1024 * 1024, id_first=True)
    assert len(answer["text"]) == 32 * 1024 * 1024
    assert time.process_time() - used < 2
    await connection.close()


# Lines


@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line)), st.data())
def test_lines_are_the_same_however_the_bytes_are_split(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    reader = Lines(limit=8)
    found = [line for part in parts for line in reader.feed(part)]
    expected = [line for line in lines if line.strip()]
    assert len(found) >= len([line for line in expected if len(line) <= 8])
    kept = [line for line in found if not isinstance(line, TooLong)]
    assert kept == [line for line in expected if len(line) <= 8]
    assert len(found) - len(kept) == len([line for line in lines if len(line) > 8])


def test_an_endless_line_is_not_kept() -> None:
    reader = Lines(limit=1000)
    for _ in range(10_000):
        assert reader.feed(b"x" * 1000) == []
    assert len(reader._part) == 0
    (line,) = reader.feed(b"\n")
    assert isinstance(line, TooLong)
    assert len(line.head) + len(line.tail) <= 2 * TooLong.KEPT
    assert reader.feed(b"next\n") == [b"next"]


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b'{"jsonrpc":"2.0","id":12,"result":{"t":"%b"}}', 12),
        (b'{"result":{"t":"%b"},"jsonrpc": "2.0", "id": 12}', 12),
        (b'{"jsonrpc":"2.0","id":"12","result":{"t":"%b"}}', 12),
        (b'{"jsonrpc":"2.0","method":"x","params":{"t":"%b","jsonrpc":"2.0","id":12}}', None),
    ],
)
def test_the_id_of_a_line_that_is_too_long(line: bytes, number: int | None) -> None:
    (found,) = Lines(limit=500).feed(line % (b"x" * 5000) + b"\n")
    assert isinstance(found, TooLong)
    assert found.request_id == number
