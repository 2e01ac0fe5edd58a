"""Logins in memory and in the file, changed by several processes."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from msgspec.structs import replace

from gateway_core.concealing import HeldSecrets
from gateway_core.files import Unusable
from gateway_core.upstream.auth import Login, Logins, logins
from gateway_core.upstream.auth.logins import GATEWAY, Client
from gateway_core.upstream.auth.vault import Vault

LOGIN = Login(
    since=1000.0,
    url="https://mcp.example.com/mcp",
    issuer="https://auth.example.com",
    client=Client("c-1", "registered", "hidden-secret", "client_secret_post", "http://127.0.0.1:1/callback"),
    access_token="hidden-access",
    refresh_token="hidden-refresh",
    expires_at=2000.5,
    scopes=("a", "b"),
    wanted=("c",),
)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("gateway_core.upstream.auth.vault._keyring", lambda: None)
    return tmp_path / "mcp-proxy.logins"


async def added(store: Logins, name: str = "tracker", login: Login = LOGIN) -> None:
    await store.change(GATEWAY, name, lambda _: login)


async def test_another_process_reads_what_one_wrote(path: Path) -> None:
    await added(Logins(path))
    other = Logins(path)
    assert other.of(GATEWAY, "tracker") is None
    await other.load()
    assert other.of(GATEWAY, "tracker") == LOGIN
    assert other.of("somebody else", "tracker") is None
    for secret in (b"hidden", b"tracker", b"example"):
        assert secret not in path.read_bytes()


async def test_a_change_keeps_what_others_wrote_meanwhile(path: Path) -> None:
    one, two = Logins(path), Logins(path)
    await added(one, "a")
    await added(two, "b")
    assert one.of(GATEWAY, "b") is None
    await one.change(GATEWAY, "a", lambda found: found and replace(found, scopes=()))
    assert one.of(GATEWAY, "b") == LOGIN
    await two.change(GATEWAY, "b", lambda _: None)
    assert two.of(GATEWAY, "a") == replace(LOGIN, scopes=())
    assert two.of(GATEWAY, "b") is None


async def test_a_hundred_changes_at_once_lose_none(path: Path) -> None:
    stores = [Logins(path) for _ in range(4)]
    await asyncio.gather(*(added(stores[number % 4], f"u{number}") for number in range(40)))
    final = Logins(path)
    await final.load()
    assert all(final.of(GATEWAY, f"u{number}") == LOGIN for number in range(40))


async def test_a_change_that_changes_nothing_writes_nothing(path: Path) -> None:
    store = Logins(path)
    await added(store)
    before = path.stat()
    assert await store.change(GATEWAY, "tracker", lambda found: found) == LOGIN
    assert await store.change(GATEWAY, "other", lambda found: found) is None
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


async def test_a_running_process_notices_a_login_and_a_logout(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "POLL", 0.02)
    running, other = Logins(path), Logins(path)
    polling = asyncio.create_task(running.keep_polling())
    changed = asyncio.create_task(running.changed())
    await asyncio.sleep(0.1)
    assert not changed.done()
    await added(other)
    async with asyncio.timeout(20):
        await changed
        assert running.of(GATEWAY, "tracker") == LOGIN
        changed = asyncio.create_task(running.changed())
        await asyncio.sleep(0)
        await other.change(GATEWAY, "tracker", lambda _: None)
        await changed
    assert running.of(GATEWAY, "tracker") is None
    polling.cancel()


async def test_a_running_process_notices_logins_after_failures(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the look at the file, and of what is called for a login."""
    monkeypatch.setattr(logins, "POLL", 0.02)
    running, other = Logins(path), Logins(path)
    stamp, failed = Vault.stamp, list[str]()
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"].splitlines()[0]), level="ERROR")

    def broken(*_: Any) -> Any:
        monkeypatch.setattr(Vault, "stamp", stamp)
        failed.append("")
        raise ValueError("secret")

    running.when_changed(broken)
    await added(other)
    monkeypatch.setattr(Vault, "stamp", broken)
    polling = asyncio.create_task(running.keep_polling())
    async with asyncio.timeout(20):
        while len(failed) < 2:
            await asyncio.sleep(0.01)
        changed = asyncio.create_task(running.changed())
        await other.change(GATEWAY, "tracker", lambda _: None)
        await changed
    assert running.of(GATEWAY, "tracker") is None
    polling.cancel()
    logger.remove(sink)
    doings = ("looking at the file of the logins", "reading the file of the logins")
    assert set(lines) == {f"ValueError while {doing}" for doing in doings}


async def test_all_secrets_are_hidden_from_the_moment_they_are_known(path: Path) -> None:
    await added(Logins(path))
    held = HeldSecrets()
    store = Logins(path, held)
    await store.load()
    line = b"hidden-access hidden-refresh hidden-secret"
    assert held.clean_line(line) == b"[REDACTED] [REDACTED] [REDACTED]"
    await added(store, login=replace(LOGIN, access_token="renewed-access"))
    assert held.clean_line(b"renewed-access") == b"[REDACTED]"


def test_nothing_prints_a_token() -> None:
    assert "hidden" not in f"{LOGIN!r} {LOGIN}"


async def test_a_damaged_file_is_ignored_with_a_message_and_replaced_by_the_next_login(
    path: Path, logged: list[str]
) -> None:
    await added(Logins(path))
    path.write_bytes(path.read_bytes()[:-9])
    store = Logins(path)
    await store.load()
    assert store.of(GATEWAY, "tracker") is None
    assert f"{path} is ignored: it is damaged; upstreams that need a login have none: log in again" in logged[-1]
    await store.check()
    await added(store)
    other = Logins(path)
    await other.load()
    assert other.of(GATEWAY, "tracker") == LOGIN


async def test_a_file_whose_key_cannot_be_had_is_not_replaced(path: Path, logged: list[str]) -> None:
    await added(Logins(path))
    path.with_name("mcp-proxy.logins-key").chmod(0o640)
    before = path.read_bytes()
    store = Logins(path)
    await store.load()
    assert "others may read it; run: chmod 600" in logged[-1]
    with pytest.raises(Unusable):
        await store.check()
    with pytest.raises(Unusable):
        await added(store)
    assert path.read_bytes() == before


async def test_a_change_that_cannot_be_written_stays_in_memory_until_it_can(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    store, other = Logins(path), Logins(path)
    await added(store, "a")
    monkeypatch.setattr(os, "replace", full)
    renewed = replace(LOGIN, access_token="renewed")
    with pytest.raises(OSError, match="No space"):
        await added(store, "a", renewed)
    assert store.of(GATEWAY, "a") == renewed
    monkeypatch.undo()
    monkeypatch.setattr("gateway_core.upstream.auth.vault._keyring", lambda: None)
    await added(other, "b")
    await store.load()
    assert (store.of(GATEWAY, "a"), store.of(GATEWAY, "b")) == (renewed, LOGIN)
    await store.change(GATEWAY, "a", lambda found: found and replace(found, scopes=()))
    await other.load()
    assert other.of(GATEWAY, "a") == replace(renewed, scopes=())


async def test_without_a_file_logins_are_in_memory() -> None:
    store = Logins()
    await store.load()
    await store.check()
    await added(store)
    assert store.of(GATEWAY, "tracker") == LOGIN


async def test_a_keyring_that_asks_a_person_first_holds_the_start_up_for_a_moment_only(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await added(Logins(path))
    asked, answered = threading.Event(), threading.Event()
    read = logins._read

    def slow(vault: Any) -> Any:
        asked.set()
        answered.wait(30)
        return read(vault)

    monkeypatch.setattr(logins, "_read", slow)
    store = Logins(path)
    await store.load(patience=0.05)
    assert asked.is_set()
    assert store.of(GATEWAY, "tracker") is None
    changed = asyncio.create_task(store.changed())
    await asyncio.sleep(0)
    answered.set()
    async with asyncio.timeout(20):
        await changed
    assert store.of(GATEWAY, "tracker") == LOGIN


async def test_the_logins_of_principals_are_bounded_and_the_operators_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "MAX_LOGINS", 2)
    store = Logins(path)
    await added(store, login=replace(LOGIN, since=1.0))
    for number, name in enumerate(("ada|i", "bob|i"), start=2):
        await store.change(name, "tracker", lambda _, number=number: replace(LOGIN, since=float(number)))
    await store.change("ada|i", "tracker", lambda found: found and replace(found, renewed=9.0))
    await store.change("eve|i", "tracker", lambda _: replace(LOGIN, since=8.0))
    other = Logins(path)
    await other.load()
    assert set(other.at("tracker")) == set(store.at("tracker")) == {GATEWAY, "ada|i", "eve|i"}, "bob's is the oldest"


async def test_the_logins_of_principals_have_room_in_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "MAX_BYTES", 4000)
    store = Logins(path)
    for number in range(20):
        login = replace(LOGIN, since=float(number), access_token="a" * 500)
        await store.change(f"{number}|i", "tracker", lambda _, login=login: login)
    kept = store.at("tracker")
    assert list(kept) == [f"{number}|i" for number in range(20 - len(kept), 20)]
    assert 2 <= len(kept) < 8


async def test_changes_of_single_logins_are_announced(path: Path) -> None:
    store, other, heard = Logins(path), Logins(path), list[tuple[str, str]]()
    other.when_changed(lambda *key: heard.append(key))
    await store.change("ada|i", "tracker", lambda _: LOGIN)
    await store.change("bob|i", "wiki", lambda _: LOGIN)
    await other.load()
    assert sorted(heard) == [("ada|i", "tracker"), ("bob|i", "wiki")]
    heard.clear()
    await other.change("ada|i", "tracker", lambda found: found and replace(found, access_token="new", renewed=1.0))
    assert heard == [], "a renewal is no other login"
    await other.change("ada|i", "tracker", lambda found: found and replace(found, ended="over"))
    await other.change("bob|i", "wiki", lambda _: None)
    assert heard == [("ada|i", "tracker"), ("bob|i", "wiki")]


async def test_tokens_of_principals_are_not_searched_for_everywhere(path: Path) -> None:
    held = HeldSecrets()
    store = Logins(path, held)
    await store.change("ada|i", "tracker", lambda _: LOGIN)
    assert held.clean(b'{"a":"hidden-access"}') == b'{"a":"hidden-access"}', "their own connections hide them"
