"""The encrypted file: what it shows, whose key opens it, and what becomes of damage."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError

from gateway_core.files import Unusable
from gateway_core.upstream.auth import vault as module
from gateway_core.upstream.auth.vault import Vault

CONTENT = b'{"a": "the content"}'


class InMemory(KeyringBackend):
    """A keyring of the test."""

    priority = 5.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def _open(self) -> None:
        if self.locked:
            raise KeyringError("locked: the-secret-of-the-keyring")

    def get_password(self, service: str, username: str) -> str | None:
        self._open()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._open()
        self.kept[service, username] = password


class Plain(InMemory):
    """A keyring that keeps everything in plain text, as the library rates it."""

    priority = 0.5  # type: ignore[assignment]


@pytest.fixture
def ring() -> Iterator[Callable[[KeyringBackend], KeyringBackend]]:
    before = keyring.get_keyring()

    def use(backend: KeyringBackend) -> KeyringBackend:
        keyring.set_keyring(backend)
        return backend

    use(Plain())
    yield use
    keyring.set_keyring(before)


@pytest.fixture
def vault(tmp_path: Path, ring: object) -> Vault:
    return Vault(tmp_path / "mcp-proxy.logins")


def test_the_content_is_encrypted_and_comes_back(vault: Vault, tmp_path: Path) -> None:
    assert vault.read() is None
    vault.write(CONTENT)
    assert Vault(vault.path).read() == CONTENT
    assert b"the content" not in vault.path.read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mcp-proxy.logins", "mcp-proxy.logins-key"]
    assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {0o600}


def test_each_write_differs_and_the_key_stays(vault: Vault, tmp_path: Path) -> None:
    vault.write(CONTENT)
    first, key = vault.path.read_bytes(), (tmp_path / "mcp-proxy.logins-key").read_bytes()
    stamp = vault.stamp()
    vault.write(CONTENT)
    assert vault.path.read_bytes() != first
    assert vault.stamp() != stamp
    assert (tmp_path / "mcp-proxy.logins-key").read_bytes() == key


def changed(path: Path, **members: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


def flipped(path: Path) -> None:
    data = json.loads(path.read_text())["data"]
    changed(path, data=data[:-8] + ("A" if data[-8] != "A" else "B") + data[-7:])


def without_key(path: Path) -> None:
    path.with_name("mcp-proxy.logins-key").unlink()


def other_key(path: Path) -> None:
    without_key(path)
    Vault(path.with_name("other.logins")).write(b"x")
    path.with_name("other.logins-key").rename(path.with_name("mcp-proxy.logins-key"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (flipped, "it is damaged"),
        (lambda path: path.write_bytes(b""), "it is damaged"),
        (lambda path: path.write_bytes(b"[" * 100_000), "it is damaged"),
        (lambda path: changed(path, data="AAAA"), "it is damaged"),
        (lambda path: changed(path, data="not base64!"), "it is damaged"),
        (lambda path: changed(path, version=2), "another version"),
        (without_key, "key file .* is missing"),
        (other_key, "another key"),
        (lambda path: path.with_name("mcp-proxy.logins-key").write_text("junk"), "key file .* is damaged"),
    ],
)
def test_what_cannot_be_read_is_replaced_by_the_next_write(
    vault: Vault, spoil: Callable[[Path], None], reason: str
) -> None:
    vault.write(CONTENT)
    spoil(vault.path)
    with pytest.raises(Unusable, match=reason) as caught:
        vault.read()
    assert caught.value.replaceable
    vault.write(b"next")
    assert vault.read() == b"next"


def test_a_key_that_others_may_read_is_not_used(vault: Vault) -> None:
    vault.write(CONTENT)
    vault.path.with_name("mcp-proxy.logins-key").chmod(0o644)
    for use in (vault.read, lambda: vault.write(b"next")):
        with pytest.raises(Unusable, match="others may read it") as caught:
            use()
        assert not caught.value.replaceable


def test_the_key_is_in_the_keyring_if_there_is_one(
    tmp_path: Path, ring: Callable[[KeyringBackend], KeyringBackend]
) -> None:
    ring(InMemory())
    vault = Vault(tmp_path / "mcp-proxy.logins")
    vault.write(CONTENT)
    assert vault.read() == CONTENT
    assert [one.name for one in tmp_path.iterdir()] == ["mcp-proxy.logins"]


def test_a_locked_keyring_loses_nothing(tmp_path: Path, ring: Callable[[KeyringBackend], KeyringBackend]) -> None:
    backend = InMemory()
    ring(backend)
    vault = Vault(tmp_path / "mcp-proxy.logins")
    vault.write(CONTENT)
    backend.locked = True
    for use in (vault.read, lambda: vault.write(b"next")):
        with pytest.raises(Unusable, match=r"keyring .* cannot be opened \(KeyringError\)") as caught:
            use()
        assert not caught.value.replaceable
    ring(Plain())
    with pytest.raises(Unusable, match="cannot reach"):
        vault.read()
    backend.locked = False
    ring(backend)
    assert vault.read() == CONTENT


def test_a_keyring_that_takes_no_key_is_the_same_as_none(
    tmp_path: Path, ring: Callable[[KeyringBackend], KeyringBackend]
) -> None:
    backend = InMemory()
    backend.locked = True
    ring(backend)
    vault = Vault(tmp_path / "mcp-proxy.logins")
    vault.write(CONTENT)
    assert json.loads(vault.path.read_text())["key"] == "file"
    assert vault.read() == CONTENT


def test_a_content_that_is_too_large_is_not_written(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE", 300)
    vault.write(b"small")
    with pytest.raises(Unusable, match="larger than 300 bytes"):
        vault.write(b"x" * 300)
    assert vault.read() == b"small"


def _hold(path: Path, held: object, release: object) -> None:
    with Vault(path).locked():
        held.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


def test_two_processes_do_not_hold_the_lock_at_once(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(vault.path, held, release))
    other.start()
    assert held.wait(30)
    monkeypatch.setattr(module, "LOCK_PATIENCE", 0.1)
    with pytest.raises(Unusable, match="another process holds"), vault.locked():
        pass
    release.set()
    other.join(30)
    with vault.locked():
        pass
