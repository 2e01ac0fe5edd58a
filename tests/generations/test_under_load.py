"""Fifty reloads while the official client of both eras, and bare requests, call without a pause."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp import MCPError

import gateway_core.hooks.loader
from gateway_core import Call, CallEnded, Event, hookimpl
from gateway_core.config import PluginEntry
from gateway_core.errors import ConfigError, PluginError
from gateway_core.generations.generation import Generation
from gateway_core.hooks import LoadedPlugin
from gateway_core.mcp.names import CALLS
from tests.generations.conftest import MODERN, Stand, served, text

pytestmark = pytest.mark.timeout(600)
RELOADS = 50
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}


class Record:
    """What the stamps of all configurations saw."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = defaultdict(list)
        """Exchange -> the number of the file, from each hook that ran for it."""
        self.generations: dict[str, int] = {}
        """Exchange -> the generation that its end names."""
        self.begun: set[int] = set()
        """The numbers of the files that calls began under."""

    async def sees(self, number: int) -> None:
        """Wait for a call that begins under this file."""
        async with asyncio.timeout(60):
            while number not in self.begun:
                await asyncio.sleep(0.005)


class Stamp:
    """A plugin that notes which file it was made from, and gives up its turn in between."""

    def __init__(self, number: int, record: Record) -> None:
        self.number = number
        self.record = record

    @hookimpl
    async def before_call(self, call: Call) -> None:
        self.record.begun.add(self.number)
        self.record.seen[call.exchange_id].append(self.number)
        await asyncio.sleep(0.001)

    @hookimpl
    async def after_call(self, call: Call) -> None:
        await asyncio.sleep(0.001)
        self.record.seen[call.exchange_id].append(self.number)

    @hookimpl
    def observe(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            self.record.generations[event.exchange_id] = event.generation


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """Lets files enable the stamps, which no distribution has."""
    made, real = Record(), gateway_core.hooks.loader.load

    def load(entries: Sequence[PluginEntry], source: str, **more: Any) -> tuple[LoadedPlugin, ...]:
        stamps = tuple(
            LoadedPlugin(one.name, Stamp(one.settings["number"], made), "1", "d", (), "reject", frozenset(CALLS))
            for one in entries
            if one.name.startswith("stamp")
        )
        first, *rest = stamps
        return (first, *real([one for one in entries if not one.name.startswith("stamp")], source, **more), *rest)

    monkeypatch.setattr(gateway_core.hooks.loader, "load", load)
    return made


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server over HTTP that needs no time to connect to."""
    script = Path(__file__).parents[1] / "servers" / "reflector.py"
    child = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    yield child.stdout.readline().strip()
    child.kill()
    child.communicate()


def variant(number: int, url: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The upstreams and settings of file `number`: each has something that the one before has not."""
    upstreams = [served("one"), served("two")]
    step = number % 5
    if step in {1, 2}:
        more = {"X-Variant": str(step)}
        upstreams.insert(step - 1, {"name": "web", "transport": "http", "url": url, "headers": more})
    if step == 3:
        upstreams.reverse()
    order = ["routing_priority", "conflict_autoprefix"][:: -1 if step == 4 else 1]
    plugins = [{"name": "stamp_a", "number": number}, *({"name": name} for name in order)]
    if step in {2, 4}:
        rules = [{"then": "deny", "tools": ["two_wait"]}, {"then": "allow"}]
        plugins.append({"name": "security_policy", "rules": rules})
    plugins.append({"name": "stamp_b", "number": number})
    return upstreams, {"plugins": plugins, "timeout": 30.0 + number, "limits": {"in_flight": 500 + number}}


class Load:
    """Calls in a loop until the end; each has to succeed."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.done = 0
        self.denied = 0
        self.over = False

    async def by_sdk(self, mode: str) -> None:
        async with self.stand.client(mode) as client:
            while not self.over:
                assert (await text(client, "one_pid")).isdigit()
                try:
                    assert await text(client, "two_wait", seconds=0.05) == "waited"
                except MCPError:  # a policy forbids it, in some of the files
                    self.denied += 1
                self.done += 2

    async def bare(self) -> None:
        params = {"name": "two_pid", "arguments": {}, "_meta": META}
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "two_pid"}
        headers["Accept"] = "application/json, text/event-stream"
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        async with aiohttp.ClientSession() as http:
            while not self.over:
                async with http.post(f"{self.stand.gateway.address}/mcp", json=body, headers=headers) as response:
                    data = await response.read()
                if response.content_type == "text/event-stream":  # the machine was busy for a second
                    data = next(line[5:] for line in reversed(data.splitlines()) if line.startswith(b"data:"))
                answer = json.loads(data)
                assert answer["result"]["content"][0]["text"].isdigit(), answer
                self.done += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        modes = (MODERN, MODERN, "legacy", "legacy")
        tasks = [asyncio.ensure_future(self.by_sdk(mode)) for mode in modes]
        tasks += [asyncio.ensure_future(self.bare()) for _ in range(4)]
        try:
            yield
        finally:
            self.over = True
            await asyncio.gather(*tasks)


async def test_no_call_fails_and_none_is_judged_by_two_configurations(stand: Stand, record: Record, url: str) -> None:
    upstreams, settings = variant(0, url)
    await stand.start(*upstreams, **settings)
    pids = {one.name: one.connections.main for one in stand.gateway.pool.upstreams}
    generations = {1: 0}
    load = Load(stand)
    async with load.running():
        await record.sees(0)
        for number in range(1, RELOADS + 1):
            upstreams, settings = variant(number, url)
            assert await stand.reload(*upstreams, **settings)
            generations[stand.gateway.status()["generation"]] = number
            await record.sees(number)
    await stand.gateway._reloads.settled()
    assert load.denied
    assert {name: main for name, main in pids.items() if main is not None and not main.closed} == pids
    assert stand.gateway.status()["calls"] >= load.done
    assert len(generations) == RELOADS + 1
    mixed = {exchange: numbers for exchange, numbers in record.seen.items() if len(set(numbers)) != 1}
    assert mixed == {}
    named = {exchange: generations[record.generations[exchange]] for exchange in record.seen}
    assert named == {exchange: numbers[0] for exchange, numbers in record.seen.items()}
    assert len({numbers[0] for numbers in record.seen.values()}) == RELOADS + 1


async def test_fifty_reloads_leave_nothing_behind(stand: Stand, record: Record, url: str) -> None:
    upstreams, settings = variant(0, url)
    await stand.start(*upstreams, **settings)
    load = Load(stand)

    async def some_reloads(first: int, last: int) -> tuple[int, int]:
        for number in range(first, last):
            upstreams, settings = variant(number, url)
            await stand.reload(*upstreams, **settings)
        await stand.gateway._reloads.settled()
        gc.collect()
        return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))

    async with load.running():
        await some_reloads(1, 6)
    tasks, descriptors = await some_reloads(6, 11)
    again, left = await some_reloads(11, RELOADS + 1)
    assert again <= tasks + 1  # a poll that has just begun
    assert left <= descriptors + 2
    known = [it for it in gc.get_objects() if isinstance(it, Generation) and it.config.path == stand.path]
    assert known == [stand.gateway._reloads.current]


async def test_a_wrong_file_costs_nothing_but_a_list_of_problems(stand: Stand, record: Record, url: str) -> None:
    upstreams, settings = variant(0, url)
    await stand.start(*upstreams, **settings)
    right = stand.path.read_text()
    lines = right.splitlines()
    load = Load(stand)
    async with load.running():
        for number in range(RELOADS):
            wrong = [*lines, *[""] * (38 - len(lines)), "[mcp.proxy.names]", f"max_length = {-number}", "dots = 3"]
            stand.path.write_text("\n".join(wrong))
            with pytest.raises(ConfigError) as found:
                await stand.gateway.reload()
            assert {int(str(problem).split(":")[1]) for problem in found.value.problems} == {len(wrong) - 1, len(wrong)}
        stand.path.write_text(right.replace('name = "conflict_autoprefix"', 'name = "no_such_plugin"'))
        with pytest.raises(PluginError, match="no_such_plugin"):
            await stand.gateway.reload()
    assert load.done
    assert not load.denied
    assert stand.gateway.status()["generation"] == 1
