"""Reloads of a running gateway, with real servers and clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from mcp import Client, MCPError
from mcp.types import ElicitResult

from gateway_core.activity.events import Reloaded
from gateway_core.catalog import memory
from gateway_core.config import Config
from gateway_core.errors import ConfigError, OutdatedEdit, PartlyApplied, PluginError
from gateway_core.generations import reloads
from gateway_core.generations.draft import Draft, version_of
from gateway_core.generations.editing.edits import KeyChange
from gateway_core.generations.reloads import ReloadRefused
from gateway_core.generations.turns import in_seconds
from gateway_core.upstream.lists import kept_lists
from gateway_core.upstream.upstream import Upstream
from tests.generations.conftest import MODERN, Prepared, Stand, names, served, text

pytestmark = pytest.mark.timeout(180)
MODES = pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
PREFIX = {"name": "conflict_autoprefix"}


Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install(name, source, cls)` installs a plugin of one module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, source: str, cls: str) -> None:
        (tmp_path / f"{name}_plugin.py").write_text(source)
        info = tmp_path / f"gateway_{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gateway-{name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[gateway_core]\n{name} = {name}_plugin:{cls}\n")

    return make


def is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


@MODES
async def test_upstreams_come_go_and_change_while_the_others_keep_their_processes(stand: Stand, mode: str) -> None:
    await stand.start(served("kept"), served("changed"), served("removed"))
    async with stand.client(mode) as client:
        before = {name: await text(client, f"{name}_pid") for name in ("kept", "changed", "removed")}
        calls = stand.gateway.status()["upstreams"][0]["calls"]
        changes = await stand.reload(served("added"), served("changed", "more"), served("kept"))
        assert changes == [
            "upstream removed: removed",
            "upstream added: added",
            "upstream changed: changed (args)",
            "upstream kept: moved",
        ]
        assert await names(client) == {
            *(f"{name}_{tool}" for name in ("added", "changed", "kept") for tool in ("pid", "wait")),
            "more",
        }
        assert await text(client, "kept_pid") == before["kept"]
        assert await text(client, "changed_pid") != before["changed"]
        await stand.settled()
        assert not is_running(before["removed"])
        assert not is_running(before["changed"])
    status = {one["name"]: one for one in stand.gateway.status()["upstreams"]}
    assert status["kept"]["calls"] == calls + 1
    assert stand.gateway.status()["generation"] == 2
    assert stand.notes == ["applied"]


async def test_a_disabled_upstream_stops_and_an_enabled_one_comes_back(stand: Stand) -> None:
    await stand.start(served("one"), served("two"))
    assert await stand.reload(served("one"), served("two", enabled=False)) == ["upstream two: disabled"]
    async with stand.client() as client:
        assert await names(client) == {"one_pid", "one_wait"}
    assert stand.gateway.upstream_log("two") == []
    assert stand.gateway.upstream_log("three") is None
    assert await stand.reload(served("one"), served("two")) == ["upstream two: enabled"]
    async with stand.client() as client:
        assert "two_pid" in await names(client)


@MODES
async def test_a_call_in_flight_ends_at_an_upstream_that_is_removed_meanwhile(
    stand: Stand, tmp_path: Path, mode: str
) -> None:
    await stand.start(served("kept"), served("removed"))
    async with stand.client(mode) as client:
        pid = await text(client, "removed_pid")
        waiting = asyncio.ensure_future(text(client, "removed_wait", seconds=100, until=str(tmp_path / "go on")))
        async with asyncio.timeout(60):
            while not stand.gateway.pool.upstreams[1].facts.in_flight:
                await asyncio.sleep(0.01)
        await stand.reload(served("kept"))
        assert is_running(pid)
        assert await names(client) == {"kept_pid", "kept_wait"}
        (tmp_path / "go on").touch()
        assert await waiting == "waited"
    await stand.settled()
    assert not is_running(pid)


async def test_agents_hear_that_a_list_changed(stand: Stand) -> None:
    heard = asyncio.Event()

    async def on_message(message: Any) -> None:
        if "list_changed" in str(message) or "ToolListChanged" in type(message).__name__:
            heard.set()

    await stand.start(served("one"))
    async with stand.client("legacy", message_handler=on_message) as client:
        await names(client)
        await stand.reload(served("one"), timeout=30.0)
        await text(client, "one_pid")
        assert not heard.is_set()
        await stand.reload(served("one"), served("two"), timeout=30.0)
        async with asyncio.timeout(60):
            await heard.wait()


@pytest.mark.parametrize("mode", [MODERN, "legacy"])
async def test_profiles_change_for_the_agents_that_use_them(stand: Stand, mode: str) -> None:
    heard = asyncio.Event()

    async def on_message(message: Any) -> None:
        if "ToolListChanged" in type(message).__name__:
            heard.set()

    def profile(name: str, **members: Any) -> dict[str, Any]:
        return {"name": name, **members}

    await stand.start(served("one"), profiles=[profile("few", tools=["*_pid"]), profile("gone")])
    few, gone = (f"{stand.gateway.address}/mcp/p/{name}" for name in ("few", "gone"))
    async with (
        Client(few, mode=mode, read_timeout_seconds=60, message_handler=on_message) as client,
        Client(gone, mode=mode, read_timeout_seconds=60) as other,
    ):
        assert await names(client) == {"one_pid"}
        assert len(await names(other)) == 2
        override = {"tool": "one_wait", "name": "sleep"}
        changes = await stand.reload(
            served("one"), profiles=[profile("few", tools=["one:*"], overrides=[override], default=True)]
        )
        assert changes == [
            "profile gone: removed",
            "profile few: changed (tools; default false -> true; overrides)",
        ]
        if mode == "legacy":
            async with asyncio.timeout(60):
                await heard.wait()
        assert await names(client) == {"one_pid", "sleep"}
        with pytest.raises(Exception, match=r"Not Found|Session terminated"):
            await names(other)
    async with stand.client(mode) as client:
        assert await names(client) == {"one_pid", "sleep"}, "it is the default profile now"


async def test_a_file_with_errors_changes_nothing_and_names_all_of_them(stand: Stand) -> None:
    await stand.start(served("one"))
    stand.path.write_text(stand.path.read_text() + '\n[mcp.proxy.limits]\nin_flight = "many"\nunknown = 1\n')
    with pytest.raises(ConfigError) as found:
        await stand.gateway.reload()
    assert len(found.value.problems) == 2
    assert all(f"{stand.path}:" in problem for problem in found.value.problems)
    async with stand.client() as client:
        assert await text(client, "one_pid")
    assert stand.gateway.status()["generation"] == 1


async def test_a_reload_that_waits_too_long_for_an_edit_says_so_and_follows_it_with_what_the_file_then_says(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for SIGHUP and `--watch`: the log names the edit, and the change of the file is not lost."""
    await stand.start(served("one"))
    reading, go_on = stand.hold_checks(monkeypatch)
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"]), level="WARNING")
    edit = asyncio.ensure_future(stand.gateway.edits.change([KeyChange("timeout", 7.0)]))
    await reading.wait()
    monkeypatch.setattr(reloads, "CHANGE_WAIT", 0.05)
    stand.write(served("one"), timeout=8.0)
    waiting = asyncio.ensure_future(stand.gateway.reload_after_others())
    async with asyncio.timeout(60):
        while not lines:
            await asyncio.sleep(0.01)
    stand.write(served("one"), timeout=9.0)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    monkeypatch.setattr(reloads, "CHANGE_WAIT", 60.0)
    go_on.set()
    with pytest.raises(OutdatedEdit):
        await edit
    await waiting
    logger.remove(sink)
    assert stand.gateway.pipeline.timeout == 9.0
    [line] = lines
    assert re.fullmatch(
        r"the configuration was not reloaded: an edit of the configuration has been in progress since 2\S+ \(\d s\)"
        "; the gateway reloads it when that ends",
        line,
    )


async def test_a_plugin_that_cannot_be_made_changes_nothing(stand: Stand) -> None:
    await stand.start(served("one"), plugins=[PREFIX])
    with pytest.raises(PluginError) as found:
        await stand.reload(served("one"), served("two"), plugins=[{**PREFIX, "wrong": 1}, {"name": "no_such_plugin"}])
    assert len(found.value.problems) == 2
    assert [one.name for one in stand.gateway.pool.upstreams] == ["one"]
    assert not stand.notes


async def test_a_process_that_cannot_be_prepared_changes_nothing(stand: Stand) -> None:
    """Such as a log file that cannot be opened."""
    await stand.start(served("one"))
    stand.refuses = "mcp.proxy.log.file: cannot be opened"
    with pytest.raises(ConfigError, match=r"log\.file"):
        await stand.reload(served("one"), served("two"), log={"file": "x"})
    assert [one.name for one in stand.gateway.pool.upstreams] == ["one"]


async def test_an_upstream_that_cannot_be_reached_is_no_reason_against_the_file(stand: Stand) -> None:
    await stand.start(served("one"))
    broken = {"name": "broken", "transport": "stdio", "command": "/no/such/program"}
    assert await stand.reload(served("one"), broken) == ["upstream broken: added"]
    states = {one["name"]: one["state"] for one in stand.gateway.status()["upstreams"]}
    assert states == {"one": "healthy", "broken": "down"}


async def test_what_needs_a_restart_is_named_and_the_rest_applies(stand: Stand) -> None:
    await stand.start(served("one"))
    changes = await stand.reload(served("one"), control={"port": 4999}, timeout=5.0)
    assert changes == [
        "timeout: changed (60.0 -> 5.0)",
        "control.port: changed (0 -> 4999), which needs a restart: commands find the control plane at this address",
    ]
    assert stand.gateway.pipeline.timeout == 5.0
    assert stand.gateway.config.proxy.control.port == 0
    assert [str(one) for one in (await stand.gateway.compare()).changes] == changes[1:]


async def test_a_comparison_changes_nothing(stand: Stand) -> None:
    await stand.start(served("one"))
    stand.write(served("one"), served("two"))
    report = await stand.gateway.compare()
    assert [str(one) for one in report.changes] == ["upstream two: added"]
    assert [one.name for one in stand.gateway.pool.upstreams] == ["one"]


async def test_reloads_follow_each_other(stand: Stand) -> None:
    await stand.start(served("one"))
    stand.write(served("one"), served("two"))
    first, second = await asyncio.gather(stand.gateway.reload(), stand.gateway.reload())
    assert [len(first.changes), len(second.changes)] == [1, 0]
    assert [first.generation, second.generation] == [2, 2]


async def test_a_gateway_that_stops_refuses_and_undoes_a_reload(stand: Stand) -> None:
    await stand.start(served("one"))
    stand.write(served("one"), served("slow", start_timeout=60) | {"args": ["-c", "import time; time.sleep(60)"]})
    reload = asyncio.ensure_future(stand.gateway.reload())
    async with asyncio.timeout(60):
        while len(stand.gateway.health._watches) < 2:
            await asyncio.sleep(0.01)
    await stand.gateway.stop()
    with pytest.raises(ReloadRefused, match="stopping"):
        await reload
    with pytest.raises(ReloadRefused):
        await stand.gateway.reload()
    assert stand.notes == ["discarded"]


async def test_a_gateway_that_stops_while_the_file_is_read_applies_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stand.start(served("one"))
    stand.write(served("one"), served("two"))
    reading, stopping, read = threading.Event(), threading.Event(), stand.read

    def slow() -> Config:
        reading.set()
        assert stopping.wait(60)
        return read()

    monkeypatch.setattr(stand, "read", slow)
    reload = asyncio.ensure_future(stand.gateway.reload())
    assert await asyncio.to_thread(reading.wait, 60)
    stop = asyncio.ensure_future(stand.gateway.stop())
    async with asyncio.timeout(60):
        while not stand.gateway._reloads.closed:
            await asyncio.sleep(0.01)
    stopping.set()
    with pytest.raises(ReloadRefused, match="stopping"):
        await reload
    await stop
    assert stand.notes == []


@pytest.fixture
async def hanging(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Future[Any]]:
    """A reload that reads the file in a thread, which cannot be cancelled, until the test ends."""
    await stand.start(served("one"))
    reading, end = threading.Event(), threading.Event()

    def hang() -> Config:
        reading.set()
        end.wait(120)
        raise ConfigError(["too late"])

    monkeypatch.setattr(stand, "read", hang)
    reload = asyncio.ensure_future(stand.gateway.reload())
    try:
        assert await asyncio.to_thread(reading.wait, 60)
        yield reload
    finally:
        end.set()
    with pytest.raises(ConfigError):
        await reload


async def test_a_gateway_that_stops_refuses_calls_while_a_reload_does_not_end(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, hanging: asyncio.Future[Any]
) -> None:
    monkeypatch.setattr(reloads, "UNDO_TIME", 0.1)
    draining = asyncio.ensure_future(stand.gateway.drain())
    await asyncio.sleep(0)
    assert stand.gateway.downstream.gate.closing
    async with asyncio.timeout(60):
        await draining
    assert not hanging.done()
    assert not any(it.reachable for it in stand.gateway.pool.upstreams)


async def test_the_time_for_undoing_a_reload_counts_from_the_begin_of_the_stop(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, hanging: asyncio.Future[Any]
) -> None:
    """Not from its last step, which comes after all calls in flight."""
    monkeypatch.setattr(reloads, "UNDO_TIME", 0.1)
    stand.gateway._reloads.refuse()
    monkeypatch.setattr(reloads, "UNDO_TIME", 3600.0)
    async with asyncio.timeout(60):
        await stand.gateway._reloads.undone()
    assert not hanging.done()


async def test_a_reload_is_undone_whole_although_steps_of_that_fail(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is cancelled again meanwhile."""
    await stand.start(served("one"))
    stand.write(served("one"), served("slow", start_timeout=60) | {"args": ["-c", "import time; time.sleep(60)"]})
    forget = stand.gateway.health.forget
    closed: list[str] = []

    async def fails(upstreams: Iterable[Upstream]) -> None:
        for upstream in (forgotten := tuple(upstreams)):
            close = upstream.connections.close
            monkeypatch.setattr(upstream.connections, "close", partial(slowly, upstream.name, close))
        await forget(forgotten)
        raise ValueError("secret")

    async def slowly(name: str, close: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        reload.cancel()
        await asyncio.sleep(0.01)
        await close(*arguments)
        closed.append(name)

    monkeypatch.setattr(stand.gateway.health, "forget", fails)
    reload = asyncio.ensure_future(stand.gateway.reload())
    async with asyncio.timeout(60):
        while len(stand.gateway.health._watches) < 2:
            await asyncio.sleep(0.01)
    reload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reload
    assert closed == ["slow"]
    assert stand.notes == ["discarded"]
    monkeypatch.undo()
    assert await stand.reload(served("one"), timeout=31.0) == ["timeout: changed (60.0 -> 31.0)"]


async def test_what_was_prepared_is_discarded_when_the_gateway_stops_meanwhile(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stand.start(served("one"))
    preparing, stopping, prepare = threading.Event(), threading.Event(), stand.prepare

    def slow(config: Config) -> Prepared:
        preparing.set()
        assert stopping.wait(60)
        return prepare(config)

    monkeypatch.setattr(stand, "prepare", slow)
    stand.write(served("one"), timeout=31.0)
    reload = asyncio.ensure_future(stand.gateway.reload())
    assert await asyncio.to_thread(preparing.wait, 60)
    stop = asyncio.ensure_future(stand.gateway.stop())
    async with asyncio.timeout(60):
        while not stand.gateway._reloads.closed:
            await asyncio.sleep(0.01)
    stopping.set()
    with pytest.raises(ReloadRefused, match="stopping"):
        await reload
    await stop
    assert stand.notes == ["discarded"]


async def test_a_failure_amid_the_switch_leaves_no_part_behind(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is replaced by then. All other parts follow it, and the failure is reported with the generation."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(f"{line.record['message']} {line.record['extra']}"), level="ERROR")
    await stand.start(served("one"), served("two"))
    gateway = stand.gateway

    def broken(*_: Any) -> None:
        raise ValueError("secret")

    monkeypatch.setattr(gateway.budget, "limit_to", broken)
    stand.write(served("one"), timeout=31.0, limits={"in_flight": 7})
    try:
        with pytest.raises(PartlyApplied, match=r"generation 2 is in force.*restart the gateway") as found:
            await gateway.reload()
    finally:
        logger.remove(sink)
    assert lines[0].startswith("ValueError while generation 2 was put in force")
    assert lines[1] == f"{found.value} {{'generation': 2}}"
    told = gateway.activity.journal.since(0, ("reload",)).events
    assert [(it.generation, it.changes, it.problems) for it in told if isinstance(it, Reloaded)] == [(2, 3, 1)]
    assert gateway._reloads.current.number == 2
    assert [it.name for it in gateway.pool.upstreams] == ["one"]
    assert gateway.downstream.gate.limit == 7
    assert stand.notes == ["applied"]
    await stand.settled()
    async with stand.client() as client:
        assert await names(client) == {"one_pid", "one_wait"}


async def test_each_step_of_the_stop_runs_after_a_failure_of_an_earlier_one(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a descriptor that could not be duplicated: child processes must not outlive the gateway."""
    await stand.start(served("one"), served("two"))
    gateway = stand.gateway
    first, second = gateway.pool.upstreams
    assert gateway._server is not None

    def broken(*_: Any) -> None:
        raise OSError("secret")

    for owner, name in (
        (gateway.activity, "stop"),
        (gateway._reloads, "end_all"),
        (gateway._server, "stop_accepting"),
        (gateway.pool.attempts, "close"),
        (gateway.input_required.parking, "close"),
        (first.published, "close"),
    ):
        monkeypatch.setattr(owner, name, broken)
    await gateway.drain()
    assert not first.reachable
    assert not second.reachable
    assert not gateway.chain._life._entered


async def test_names_and_lists_are_recorded_once_their_configuration_is_in_force(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit that is refused late, as here for the version of the file, leaves what the present one has recorded."""
    monkeypatch.setattr(memory, "DELAY", 0.01)
    monkeypatch.setattr(kept_lists, "DELAY", 0.01)
    stand.names, stand.lists = tmp_path / "names", tmp_path / "lists"

    def recorded() -> dict[str, set[str]]:
        """Upstream -> the tools that the files hold for it."""
        assert stand.names is not None
        assert stand.lists is not None
        found: dict[str, set[str]] = {}
        if stand.names.exists():
            for name, of in json.loads(stand.names.read_bytes().partition(b"\n")[2])["upstreams"].items():
                found[f"{name} names"] = {tool for tool, _ in of.get("lists", {}).get("tool", [])}
        for path in stand.lists.glob("*.json"):
            found[f"{path.stem} lists"] = set(re.findall(r"[a-z]+_(?:pid|wait)|other", path.read_text()))
        return found

    async def wait_for(expected: dict[str, set[str]]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while recorded() != expected:
                    await asyncio.sleep(0.01)
        assert recorded() == expected

    one, two = ({f"{name}_pid", f"{name}_wait"} for name in ("one", "two"))
    both = {"one names": one, "one lists": one, "two names": two, "two lists": two}
    await stand.start(served("one"), served("two"))
    await wait_for(both)
    stand.write(served("two", "other"))

    def refused() -> Draft:
        time.sleep(0.5)  # long enough for writes to begin
        return Draft(stand.path, b"", version_of(b"of another edit"), stand.replaced)

    with pytest.raises(OutdatedEdit):
        await stand.gateway._reloads.reload(stand, listening=True, draft=refused, until=in_seconds(60))
    assert recorded() == both
    await stand.reload(served("two", "other"))
    await stand.settled()
    await wait_for({"two names": two | {"other"}, "two lists": two | {"other"}})
    await stand.gateway.stop()
    assert recorded() == {"two names": two | {"other"}, "two lists": two | {"other"}}


async def test_a_blocked_loop_is_told_with_plugins_of_generations_that_still_serve_calls(
    stand: Stand, tmp_path: Path
) -> None:
    await stand.start(served("one"), plugins=[{"name": "security_redact"}])
    async with stand.client() as client:
        waiting = asyncio.ensure_future(text(client, "one_wait", seconds=100, until=str(tmp_path / "go on")))
        async with asyncio.timeout(60):
            while not stand.gateway.pool.upstreams[0].facts.in_flight:
                await asyncio.sleep(0.01)
        await stand.reload(served("one"), plugins=[{"name": "security_ratelimit"}])
        redact, limit = "gateway_security_redact", "gateway_security_ratelimit"
        assert set(stand.gateway._loop_lag._plugins) >= {redact, limit}
        (tmp_path / "go on").touch()
        await waiting
    await stand.settled()
    assert redact not in stand.gateway._loop_lag._plugins


async def test_lags_of_the_loop_are_measured_while_a_plugin_in_force_asks(stand: Stand) -> None:
    metrics = {"name": "observe_metrics"}
    await stand.start(served("one"), plugins=[metrics])

    def lags() -> Any:
        return stand.gateway.status()["loop"]["lags"]

    async with asyncio.timeout(60):
        while not sum(lags()["counts"]):
            await asyncio.sleep(0.05)
    assert len(lags()["counts"]) == len(lags()["bounds"]) + 1
    before = sum(lags()["counts"])
    await stand.reload(served("one"), plugins=[{**metrics, "hook_times": True}])
    assert sum(lags()["counts"]) >= before
    await stand.reload(served("one"), plugins=[{"name": "security_redact"}])
    assert lags() is None
    await stand.settled()
    assert lags() is None
    await stand.reload(served("one"), plugins=[metrics])
    async with asyncio.timeout(60):
        while not sum(lags()["counts"]):
            await asyncio.sleep(0.05)


@MODES
async def test_a_record_of_calls_goes_on_in_one_file_and_names_the_generation(
    stand: Stand, tmp_path: Path, mode: str
) -> None:
    closed = {"name": "security_policy", "rules": [{"name": "closed", "then": "deny", "reason": "closed"}]}
    await stand.start(served("one"), plugins=[{"name": "audit_log", "sync": "each"}])
    async with stand.client(mode) as client:
        await text(client, "one_pid")
        waiting = asyncio.ensure_future(text(client, "one_wait", seconds=100, until=str(tmp_path / "go on")))
        async with asyncio.timeout(60):
            while not stand.gateway.pool.upstreams[0].facts.in_flight:
                await asyncio.sleep(0.01)
        await stand.reload(served("one"), plugins=[{"name": "audit_log", "sync": "each"}, closed])
        with pytest.raises(MCPError, match="closed"):
            await client.call_tool("one_pid", {})
        (tmp_path / "go on").touch()
        await waiting
    await stand.settled()
    await stand.gateway.stop()
    entries = [json.loads(line) for line in stand.path.with_name("audit.jsonl").read_text().splitlines()]
    calls = [one for one in entries if one.get("method") == "tools/call"]
    assert [(one["name"], one["generation"], one["decision"], one["rule"]) for one in calls] == [
        ("one_pid", 1, "allow", ""),
        ("one_pid", 2, "refuse", "closed"),
        ("one_wait", 1, "allow", ""),
    ]
    assert [one["seq"] for one in entries] == list(range(1, len(entries) + 1))
    assert [one["prev"] for one in entries[1:]] == [one["hash"] for one in entries[:-1]]
    assert [one["type"] for one in entries if one["type"] in {"start", "stop"}] == ["start", "stop"]


OPINIONS = """
from gateway_core import Ask, CallResult, PluginConfig, Reject, hookimpl


ANSWER = {"content": [], "structuredContent": {"result": "yes"}}


class Opinions:
    class Config(PluginConfig):
        pass

    def __init__(self, config):
        pass

    @hookimpl
    def before_call(self, call):
        wish = call.arguments.get("wish")
        if wish == "fail":
            raise ValueError
        if wish == "ask":
            return None if call.answers else Ask("Sure?")
        return {"refuse": Reject("no"), "answer": CallResult.of(ANSWER)}.get(wish)
"""
WISHES = ("", "refuse", "answer", "ask", "fail", "")


@MODES
async def test_each_line_and_entry_about_a_call_names_the_generation_that_judged_it(
    stand: Stand, install: Install, mode: str
) -> None:
    install("opinions", OPINIONS, "Opinions")
    report = {"name": "security_policy", "mode": "report", "rules": [{"name": "closed", "then": "deny"}]}
    plugins = [{"name": name} for name in ("audit_log", "opinions", "security_redact")]
    lines: list[dict[str, Any]] = []
    handler = logger.add(lambda message: lines.append(dict(message.record["extra"])), level="DEBUG")

    async def agree(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={})

    async def make_calls(client: Client) -> None:
        for wish in WISHES:
            with contextlib.suppress(MCPError):
                await client.call_tool("one_pid", {"wish": wish} if wish else {})
        with contextlib.suppress(MCPError):
            await client.call_tool("no_such_tool", {})
        await client.list_tools()

    try:
        await stand.start(served("one"), plugins=[*plugins, report])
        async with stand.client(mode, elicitation_callback=agree) as client:
            await make_calls(client)
            marks = len(lines)
            await stand.reload(served("one"), plugins=[*plugins, report], timeout=50.0)
            lines_before, lines[:marks] = lines[:marks], []
            await make_calls(client)
        await stand.settled()
        await stand.gateway.stop()
    finally:
        logger.remove(handler)
    assert [line["rule"] for line in lines_before if "rule" in line], "security_policy reports, once a minute"
    for number, written in ((1, lines_before), (2, lines)):
        about_calls = [line for line in written if "exchange" in line]
        assert [line for line in about_calls if line.get("generation") != number] == []
        assert {line["outcome"] for line in about_calls if "outcome" in line} >= {"ok", "refused", "error"}
        assert sum(line.keys() == {"exchange", "generation"} for line in about_calls) >= 6, "payloads"
        assert {line["plugin"] for line in about_calls if "plugin" in line} == {"opinions"}
    entries = [json.loads(line) for line in stand.path.with_name("audit.jsonl").read_text().splitlines()]
    for number in (1, 2):
        decisions = {one["decision"] for one in entries if one.get("generation") == number}
        asked = {"ask"} if mode == MODERN else set()
        assert decisions == {"allow", "refuse", "answer", "fail"} | asked
    assert [one for one in entries if one["type"] in {"call", "authentication"} and "generation" not in one] == []


SECRETIVE = """
from pydantic import SecretStr
from gateway_core import PluginConfig, hookimpl


class Secretive:
    class Config(PluginConfig):
        pepper: SecretStr

    def __init__(self, config):
        pass

    @hookimpl
    def before_call(self, call):
        pass
"""


async def test_secrets_of_plugins_are_hidden_as_long_as_their_generation_serves(stand: Stand, install: Install) -> None:
    install("secretive", SECRETIVE, "Secretive")

    def plugins(pepper: str) -> list[dict[str, str]]:
        return [{"name": "secretive", "pepper": pepper}]

    def hides(secret: str) -> bool:
        return secret.encode() not in stand.gateway.clean(f'{{"text":"{secret}"}}'.encode())

    await stand.start(served("one"), plugins=plugins("hush-hush-1"))
    assert hides("hush-hush-1")
    async with stand.client() as client:
        waiting = asyncio.ensure_future(text(client, "one_wait", seconds=60))
        while not stand.gateway._reloads.in_flight:
            await asyncio.sleep(0.01)
        await stand.reload(served("one"), plugins=plugins("hush-hush-2"))
        assert hides("hush-hush-1")
        assert hides("hush-hush-2")
        waiting.cancel()
    await stand.settled()
    assert not hides("hush-hush-1")
    assert hides("hush-hush-2")
    with pytest.raises(PluginError):
        await stand.reload(served("one"), plugins=[*plugins("hush-hush-3"), {"name": "missing"}])
    assert not hides("hush-hush-3")
