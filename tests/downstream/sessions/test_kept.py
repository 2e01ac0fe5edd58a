"""The file of sessions between two runs: who can use it, and what happens to one that cannot be used."""

import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.downstream.auth.caller import Caller, caller_at
from gateway_core.downstream.sessions import kept as module
from gateway_core.downstream.sessions.kept import KeptSessions
from gateway_core.downstream.sessions.record import SessionRecord

IDLE = 60.0
HERE = caller_at("127.0.0.1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mcp-proxy.sessions"


def record(number: int = 1, caller: Caller = HERE, **fields: Any) -> SessionRecord:
    values = {
        "protocol_version": "2025-11-25",
        "client_info": b'{"name":"tester-of-secrets"}',
        "capabilities": b'{"sampling":{}}',
        "ready": True,
        "log_level": "error",
        "uris": ["file:///plans"],
    }
    return SessionRecord(f"id-{number}", caller, "tester@127.0.0.1", time.monotonic(), **{**values, **fields})


async def saved(path: Path, *records: SessionRecord, idle: float = IDLE) -> None:
    sessions = KeptSessions(path)
    await sessions.load(idle)
    await sessions.save(records, time.monotonic(), idle)


async def loaded(path: Path, idle: float = IDLE) -> KeptSessions:
    sessions = KeptSessions(path)
    await sessions.load(idle)
    return sessions


def rewritten(path: Path, **members: Any) -> None:
    """Replace members of the file, with a checksum that fits."""
    content = {**json.loads(path.read_bytes()[65:]), **members}
    body = json.dumps(content).encode()
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


async def test_a_session_goes_on_with_all_that_its_agent_said(path: Path) -> None:
    await saved(path, record())
    sessions = await loaded(path)
    found = sessions.take("id-1", HERE, 7.0)
    assert found is not None
    expected = record()
    for name in ("id", "owner", "protocol_version", "client_info", "capabilities", "ready", "log_level", "uris"):
        assert getattr(found, name) == getattr(expected, name)
    assert (found.caller, found.used, found.busy) == (HERE, 7.0, False)
    assert sessions.take("id-1", HERE, 7.0) is None


async def test_another_caller_cannot_use_it_and_does_not_take_it_away(path: Path) -> None:
    owner = Caller("127.0.0.1", Principal("ada|idp", verified=True))
    await saved(path, record(caller=owner))
    sessions = await loaded(path)
    eve = Caller("127.0.0.1", Principal("eve|idp", verified=True))
    for stranger in (HERE, eve, Caller("127.0.0.1", owner.principal, profile="x")):
        assert sessions.take("id-1", stranger, 0.0) is None
    assert sessions.take("id-1", owner, 0.0) is not None


async def test_the_file_shows_nothing_of_a_session_and_is_private(path: Path) -> None:
    await saved(path, record())
    data = path.read_bytes()
    for secret in (b"id-1", b"tester", b"plans", b"127.0.0.1"):
        assert secret not in data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_file_is_read_once(path: Path) -> None:
    await saved(path, record())
    assert len(await loaded(path)) == 1
    assert not path.exists()
    assert len(await loaded(path)) == 0


async def test_what_no_agent_used_meanwhile_is_kept_again(path: Path) -> None:
    await saved(path, record(1))
    sessions = await loaded(path)
    await sessions.save([record(2)], time.monotonic(), IDLE)
    sessions = await loaded(path)
    assert len(sessions) == 2
    assert sessions.take("id-1", HERE, 0.0) is not None


async def test_a_file_that_was_not_read_stays(path: Path) -> None:
    await saved(path, record())
    await KeptSessions(path).save([], time.monotonic(), IDLE)  # of a gateway whose start failed early
    assert len(await loaded(path)) == 1


@pytest.mark.parametrize("damage", ["cut", "bit", "garbage", "version", "member", "readable", "huge"])
async def test_a_file_that_cannot_be_used_is_ignored(path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await saved(path, record())
    data = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(data[:-5])
        case "bit":
            path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
        case "garbage":
            path.write_bytes(os.urandom(500))
        case "version":
            rewritten(path, version=module.VERSION + 1)
        case "member":
            rewritten(path, sessions={"x": {"until": "soon"}})
        case "readable":
            path.chmod(0o644)
        case "huge":
            monkeypatch.setattr(module, "MAX_FILE", 100)
    sessions = await loaded(path)
    assert len(sessions) == 0
    assert sessions.take("id-1", HERE, 0.0) is None


async def test_a_record_that_was_changed_opens_for_no_one(path: Path) -> None:
    await saved(path, record(1), record(2))
    entries = json.loads(path.read_bytes()[65:])["sessions"]
    first, second = entries
    entries[first], entries[second] = entries[second], entries[first]
    rewritten(path, sessions=entries)
    sessions = await loaded(path)
    assert len(sessions) == 2
    assert sessions.take("id-1", HERE, 0.0) is None


async def test_expired_sessions_are_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    unused, old, busy = record(1), record(2), record(3)
    unused.used = now - IDLE - 1
    old.used = now - IDLE + 10
    busy.calls_begun(now - 2 * IDLE)
    await saved(path, unused, old, busy)
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + 11)
    sessions = await loaded(path)
    assert sessions.take("id-1", HERE, 0.0) is None
    assert sessions.take("id-2", HERE, 0.0) is None
    monkeypatch.setattr("time.time", lambda: real() + IDLE + 1)
    assert sessions.take("id-3", HERE, 0.0) is None
    sessions.expire()
    assert len(sessions) == 0


async def test_a_clock_that_was_set_back_keeps_nothing_for_longer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    await saved(path, record())
    monkeypatch.setattr("time.time", lambda: real() - 10_000)
    sessions = await loaded(path)
    monkeypatch.setattr("time.time", lambda: real() - 10_000 + IDLE + 1)
    assert sessions.take("id-1", HERE, 0.0) is None


async def test_the_file_is_bounded_and_keeps_the_newest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    records = [record(number) for number in range(20)]
    for number, one in enumerate(records):
        one.used = now - number
    large = record(99, client_info=b'"' + b"x" * module.MAX_RECORD + b'"')
    monkeypatch.setattr(module, "MAX_FILE", 4000)
    await saved(path, large, *records)
    assert path.stat().st_size <= 4000
    sessions = await loaded(path)
    assert 1 < len(sessions) < 20
    assert sessions.take("id-0", HERE, 0.0) is not None
    assert sessions.take("id-19", HERE, 0.0) is None
    assert sessions.take("id-99", HERE, 0.0) is None


async def test_a_full_disk_loses_sessions_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway_core.files.replace", full)
    await saved(path, record())
    assert not path.exists()


async def test_without_a_file_nothing_is_kept() -> None:
    sessions = KeptSessions()
    await sessions.load(IDLE)
    await sessions.save([record()], time.monotonic(), IDLE)
    assert sessions.take("id-1", HERE, 0.0) is None


async def after_restart(before: Any, path: Path, start: Any, **settings: Any) -> Any:
    """The world of the next process."""
    await before.downstream.sessions.keep(IDLE)
    await before.server.close(0.0)
    after = await start(kept=KeptSessions(path), **settings)
    await after.downstream.sessions.recall(IDLE)
    return after


async def begun(path: Path, start: Any) -> Any:
    world = await start(kept=KeptSessions(path))
    await world.downstream.sessions.recall(IDLE)
    return world


async def test_an_agent_goes_on_with_the_next_process(path: Path, start: Any) -> None:
    before = await begun(path, start)
    session = await before.initialize()
    level = {"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "error"}}
    assert "result" in (await before.post(level, session)).json
    (opened,) = before.downstream.sessions
    after = await after_restart(before, path, start)
    assert len(after.downstream.sessions) == 0
    echo = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "echo"}}
    assert "result" in (await after.post(echo, session)).json
    exchange = after.pipeline.exchanges[-1]
    assert (exchange.agent, exchange.log_level) == (opened.agent, "error")
    assert (await after.post(echo, {**session, "Mcp-Session-Id": "x"})).status == 404


async def test_a_session_that_its_agent_ended_does_not_go_on(path: Path, start: Any) -> None:
    before = await begun(path, start)
    session = await before.initialize()
    async with before.http.delete(before.url, headers=session) as response:
        assert response.status == 204
    after = await after_restart(before, path, start)
    assert (await after.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, session)).status == 404


async def test_a_session_that_goes_on_takes_the_place_of_the_idlest(path: Path, start: Any) -> None:
    before = await begun(path, start)
    session = await before.initialize()
    after = await after_restart(before, path, start, limits={"sessions_per_principal": 1})
    newer = await after.initialize()
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert (await after.post(ping, session)).status == 200
    assert (await after.post(ping, newer)).status == 404


async def test_a_standalone_stream_goes_on_after_an_event_of_the_earlier_process(path: Path, start: Any) -> None:
    before = await begun(path, start)
    session = {**await before.initialize(), "Accept": "text/event-stream"}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await before.post(ready, session)).status == 202
    async with before.http.get(before.url, headers=session) as stream:
        event_id = (await stream.content.readline()).decode().removeprefix("id: ").strip()
    after = await after_restart(before, path, start)
    async with after.http.get(after.url, headers={**session, "Last-Event-ID": event_id}) as stream:
        assert stream.status == 200
        text = ""
        while text.count("/list_changed") < 3:  # it may have missed them
            text += (await stream.content.readline()).decode()
    of_request = {"Last-Event-ID": "r" + event_id[1:]}
    async with after.http.get(after.url, headers={**session, **of_request}) as response:
        assert response.status == 400
