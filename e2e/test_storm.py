"""Many agents of both eras at servers of every transport, with calls that are cancelled, agents that leave and servers
that are killed: no call is executed twice, none gets another's answer, and nothing is left in flight.

What happens is drawn by chance; the seed is in the name of the test.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError

SERVER = Path(__file__).parent / "servers" / "journal.py"
OVER_HTTP = {
    "events": [],
    "json": ["json"],
    "stateless": ["stateless"],
    "sessions": ["legacy"],
    "older": ["sse"],
}
MORTAL = ("child1", "child2")
"""Servers that are killed now and then; the gateway starts them again."""
ANY = "any"
"""Stands for all of them: they offer the same tool, and the gateway chooses."""
AGENTS = 24
CALLS = 800
BETWEEN_KILLS = (20, 100)
"""Calls that are answered between the kill of a server and the next."""
PATIENCE = 100.0
LONGEST = 500.0
CALL_ERRORS = ("Outcome unknown", "no upstream could take the call", "was not executed", "did not answer")
"""What an agent may be told of a call whose server was killed."""


@dataclass
class Storm:
    """What was asked for and what came of it."""

    url: str
    luck: random.Random
    asked: dict[str, str] = field(default_factory=dict)
    """Each call, and the server that it went to."""
    answered: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    """Those that their agent cancelled or left."""
    failed: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether there were enough calls."""
        return len(self.asked) >= CALLS

    async def agent(self, number: int) -> None:
        """One agent after the other in the same place, until it is over."""
        life = 0
        while not self.over:
            life += 1
            mode = self.luck.choice(["legacy", "2026-07-28"])
            try:
                async with Client(self.url, mode=mode, read_timeout_seconds=PATIENCE) as client:
                    for step in range(self.luck.randrange(5, 40)):
                        if self.over:
                            break
                        await self.act(client, f"a{number}.{life}.{step}")
            except* (anyio.ClosedResourceError, anyio.BrokenResourceError):
                pass  # the SDK's client, when it is closed while an answer comes that nobody waits for any more

    async def act(self, client: Client, name: str) -> None:
        server = self.luck.choice([*OVER_HTTP, *MORTAL, ANY])
        arguments = {
            "call": name,
            "seconds": self.luck.choice([0.0, 0.0, 0.0, 0.02, 0.2, 1.2]),
            "steps": self.luck.choice([0, 0, 3]),
            "size": self.luck.choice([10, 10, 5_000, 300_000]),
        }
        self.asked[name] = server
        calling = asyncio.create_task(self.call(client, server, arguments))
        if self.luck.random() < 0.2:
            await asyncio.sleep(self.luck.choice([0.0, 0.001, 0.01, 0.1]))
            if calling.cancel():
                self.given_up.add(name)
        await asyncio.gather(calling, return_exceptions=True)
        if not calling.cancelled() and calling.exception() is not None:
            raise calling.exception() or AssertionError

    async def call(self, client: Client, server: str, arguments: dict[str, Any]) -> None:
        name, heard = arguments["call"], []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            heard.append(done)

        listening = {"progress_callback": progress} if arguments["steps"] else {}
        try:
            result = await client.call_tool("work" if server == ANY else f"{server}:work", arguments, **listening)
        except MCPError as error:
            self.failed[name] = str(error)
            return
        text = "".join(getattr(block, "text", "") for block in result.content)
        if result.is_error:
            self.failed[name] = text
        elif text != f"{name} {'x' * arguments['size']}":
            self.wrong.append(f"{name} got {text[:50]}")
        else:
            self.answered.add(name)
        if heard != sorted(set(heard)):
            self.wrong.append(f"{name} heard {heard}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
async def test_no_call_runs_twice_and_none_is_lost(launcher: Any, tmp_path: Path, seed: int) -> None:
    journals = {name: tmp_path / f"{name}.journal" for name in (*OVER_HTTP, *MORTAL)}
    gateway = await asyncio.to_thread(start, launcher, journals)
    storm = Storm(gateway.url, random.Random(seed))
    agents: list[Coroutine[Any, Any, None]] = [storm.agent(number) for number in range(AGENTS)]
    async with asyncio.timeout(LONGEST):
        await asyncio.gather(*agents, kill_now_and_then(journals, storm))

    executed = Counter(line for journal in journals.values() for line in journal.read_text().split())
    assert {call: times for call, times in executed.items() if times > 1} == {}
    assert storm.wrong == []
    assert storm.answered <= executed.keys()
    assert len(storm.answered) > 500
    reasons = {call: why for call, why in storm.failed.items() if storm.asked[call] not in {*MORTAL, ANY}}
    assert reasons == {}, "nothing happened to their servers"
    assert [why for why in storm.failed.values() if not any(known in why for known in CALL_ERRORS)] == []
    assert storm.answered | storm.failed.keys() | storm.given_up == storm.asked.keys()
    async with asyncio.timeout(60):  # what was cancelled last may still be on its way
        while in_flight(await asyncio.to_thread(gateway.rad, "status")):
            await asyncio.sleep(0.2)
    log = launcher.processes.log("gateway")
    assert "Traceback" not in log
    assert " ERROR " not in log


def in_flight(status: dict[str, Any]) -> int:
    return int(status["in_flight"]) + sum(int(upstream["in_flight"]) for upstream in status["upstreams"])


def start(launcher: Any, journals: dict[str, Path], others: Sequence[dict[str, Any]] = (), **settings: Any) -> Any:
    """The servers, and a gateway over them with these settings; `others` are more of its upstreams."""
    command = (sys.executable, str(SERVER))
    replica = {"group": "storm"}
    upstreams: list[dict[str, Any]] = [
        {
            "name": name,
            "transport": "stdio",
            "command": command[0],
            "args": [command[1], str(journals[name]), "stdio"],
            **replica,
        }
        for name in MORTAL
    ]
    for name, modes in OVER_HTTP.items():
        port = launcher.free_port()
        launcher.processes.start(name, *command, str(journals[name]), str(port), *modes)
        older = "sse" in modes
        url = f"http://127.0.0.1:{port}/{'sse' if older else 'mcp'}"
        upstreams.append({"name": name, "transport": "sse" if older else "http", "url": url, **replica})
    upstreams += others
    settings |= {"upstreams": upstreams, "security": {"rate_limit_per_minute": 0}}
    return launcher.gateway(settings, upstreams=len(upstreams))


async def kill_now_and_then(journals: dict[str, Path], storm: Storm) -> None:
    """Kill one of the servers over stdio at a time, after some more calls were answered.

    Between two kills the servers come back, however slow the machine is.
    """
    until = storm.luck.randrange(*BETWEEN_KILLS)
    while not storm.over:
        await asyncio.sleep(0.05)
        if len(storm.answered) >= until:
            await asyncio.to_thread(kill, journals[storm.luck.choice(MORTAL)])
            until = len(storm.answered) + storm.luck.randrange(*BETWEEN_KILLS)


def kill(journal: Path) -> None:
    """Kill the server over stdio that writes this journal."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        # Its guard has the same words, after its own.
        if words[1:3] == [str(SERVER).encode(), str(journal).encode()]:
            os.kill(int(process.name), signal.SIGKILL)
