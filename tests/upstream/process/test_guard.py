"""What the guard of a child process passes on to it."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable

import pytest
import uvloop

from gateway_core.config import UpstreamConfig
from gateway_core.upstream.process.child import Child

LIST = "import json, os; print(json.dumps(sorted(map(int, os.listdir('/proc/self/fd')))))"
CLOSE = "import os, time; os.close(1); time.sleep(60)"
IGNORED = "import signal; print([one.name for one in signal.Signals if signal.getsignal(one) == signal.SIG_IGN])"
LOOPS = [asyncio.run, uvloop.run]


async def run_child(code: str) -> tuple[bytes, str]:
    """What a child printed, and how it ended."""
    output: list[bytes] = []
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    config = UpstreamConfig(name="server", transport="stdio", command=sys.executable, args=("-c", code))
    child = Child(config)
    child.hear(output.append, ended.set_result)
    await child.start()
    try:
        reason = await asyncio.wait_for(ended, 10)
        return b"".join(output), reason
    finally:
        await child.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists descriptors in /proc")
@pytest.mark.parametrize("run", LOOPS)
def test_a_child_has_its_three_descriptors_and_no_more(run: Callable[..., tuple[bytes, str]]) -> None:
    output, _ = run(run_child(LIST))
    assert json.loads(output)[:3] == [0, 1, 2]
    assert len(json.loads(output)) == 4  # the last is the listing itself


@pytest.mark.parametrize("run", LOOPS)
def test_a_child_that_closes_its_stdout_is_noticed(run: Callable[..., tuple[bytes, str]]) -> None:
    _, reason = run(run_child(CLOSE))
    assert reason == "closed its stdout"


@pytest.mark.parametrize("run", LOOPS)
def test_a_child_ignores_no_signal_that_the_gateway_ignores(run: Callable[..., tuple[bytes, str]]) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGUSR1)}
    try:
        output, _ = run(run_child(IGNORED))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert output == b"['SIGPIPE', 'SIGXFSZ']\n", "those that every Python ignores"
