"""Which functions of the core one call runs through: how many Python calls, in how many files.

    python trace.py            # both calls: what a modern agent calls over HTTP, what a legacy one calls over stdio
    python trace.py --list     # with each call of a function, in order
    python trace.py --steps    # with the byte codes that each function executes, most first

A real gateway with the default plugins (without the payload log) runs in this process, on the loop that `rad` uses. Its
agent is a socket in another thread; its upstreams are processes of their own: one over HTTP, one over stdio. Only the
thread of the event loop is watched, during one call that follows many like it.

What counts as a call: a function, a coroutine or a generator of `gateway_core` that begins to run. A coroutine that is
resumed after it waited is the same call. What runs in C, in other packages and in the plugins is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import processes
import targets
from matrix import STAGES
from mcp_client import Ask, Client

import gateway_core
from gateway_core.cli.serving.serve import _loop_factory
from gateway_core.config import load
from gateway_core.gateway import Gateway
from gateway_core.log import output

GOAL = (90, 24)
"""Calls and files that one call is to need at most."""
WARM = 20
"""Calls before the watched call."""
ROOT = f"{Path(gateway_core.__file__).parent}/"
STDIO = """
[[mcp.proxy.upstreams]]
name = "child"
transport = "stdio"
command = {command}
args = ["-i"]
"""


class Function(NamedTuple):
    """A function of the core."""

    file: str
    name: str


class Watch:
    """What ran in this thread while it was watched."""

    def __init__(self, *, steps: bool) -> None:
        self.calls: list[Function] = []
        self.steps: Counter[Function] = Counter()
        self._seen: dict[int, FrameType] = {}
        """The frames that have begun; they are held, so that no other one gets the number of an old one."""
        self._count_steps = steps

    @contextmanager
    def watching(self) -> Iterator[None]:
        begin: Callable[[Any], None] = sys.settrace if self._count_steps else sys.setprofile
        begin(self._see)
        try:
            yield
        finally:
            begin(None)

    def _see(self, frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(ROOT):
            return None
        function = Function(code.co_filename.removeprefix(ROOT), code.co_qualname)
        if event == "call" and id(frame) not in self._seen:
            self._seen[id(frame)] = frame
            self.calls.append(function)
        if self._count_steps:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            self.steps[function] += event == "opcode"
        return self._see

    @property
    def files(self) -> Counter[str]:
        """How many of the calls are of each file."""
        return Counter(function.file for function in self.calls)


class Call:
    """The same call again and again, on one connection."""

    def __init__(self, port: int, era: str) -> None:
        client = Client(port, era)
        session = client.open()
        self._data = client.call_record(session, "echo", Ask()).data
        client.close()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.connect()

    def __call__(self) -> None:
        self._connection.sock.sendall(self._data)
        answer = http.client.HTTPResponse(self._connection.sock)
        answer.begin()
        body = answer.read()
        if answer.status != 200 or b'"result":' not in body:
            raise RuntimeError(f"not the answer: {answer.status} {body[:300]!r}")

    def close(self) -> None:
        self._connection.close()


async def watched(config: Path, era: str, *, steps: bool) -> Watch:
    """What one call of an agent of that era runs through."""
    gateway, watch = Gateway(load(config)), Watch(steps=steps)
    loop = asyncio.get_running_loop()
    await gateway.start()
    try:
        await gateway.wait_first_discovery()
        port = int(gateway.address.rpartition(":")[2])
        call = await loop.run_in_executor(None, Call, port, era)
        for _ in range(WARM):
            await loop.run_in_executor(None, call)
        with watch.watching():
            await loop.run_in_executor(None, call)
        await loop.run_in_executor(None, call.close)
    finally:
        await gateway.stop()
    return watch


def watches(*, steps: bool = False) -> dict[str, Watch]:
    """What the two calls run through."""
    processes.build()
    found = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        upstream, ports = targets.upstreams(processes.OUT, scratch, STAGES["one"])
        try:
            over_http = targets.UPSTREAM.format(number=0, port=ports[0])
            over_stdio = STDIO.format(command=f'"{processes.OUT / "mcpup"}"')
            for title, era, server in (
                ("modern agent, upstream over HTTP", "modern", over_http),
                ("legacy agent, upstream over stdio", "legacy", over_stdio),
            ):
                config = scratch / f"{era}.toml"
                settings = targets.GATEWAY.format(port=processes.free_port(), level="INFO")
                config.write_text(settings + server + targets.QUIET)
                output.setup(load(config).proxy.log, to_terminal=False)
                with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                    found[title] = runner.run(watched(config, era, steps=steps))
                output.flush()
        finally:
            upstream.process.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--list", action="store_true", help="each call of a function, in order")
    parser.add_argument("--steps", action="store_true", help="the byte codes that each function executes")
    options = parser.parse_args()
    for title, watch in watches(steps=options.steps).items():
        print(f"{title}: {len(watch.calls)} calls in {len(watch.files)} files (at most {GOAL[0]} in {GOAL[1]})")
        if options.list:
            print(*(f"  {function.file}: {function.name}" for function in watch.calls), sep="\n")
        if options.steps:
            print(f"{watch.steps.total():6} byte codes")
            times = Counter(watch.calls)
            for function, steps in watch.steps.most_common():
                print(f"{steps:6} in {times[function]:2}  {function.file}: {function.name}")


if __name__ == "__main__":
    main()
