"""An encrypted file that several processes share: the logins at rest.

The content is encrypted with AES-256-GCM. Its key is in the operating system's keyring if there is one (the extra
`keyring` of the distribution), else in a file beside it. All files have mode 0600. A write replaces the file
atomically; `locked` keeps other processes from writing in between. Everything here blocks, and runs in threads.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway_core import files
from gateway_core.files import Unusable

VERSION: Final = 1
"""Version of the file's form; incremented when it changes."""
MAX_FILE: Final = 4 * 1024 * 1024
"""Maximum size of the file in bytes."""
LOCK_PATIENCE: Final = 10.0
"""Seconds to wait for another process, which holds the lock for one read and one write."""
_SERVICE: Final = "radium-mcp-gateway"
_KEY_BYTES: Final = 32
_MAX_KEY_FILE: Final = 1024
_NONCE_BYTES: Final = 12
_MIN_PRIORITY: Final = 1.0
"""Priority from which on a backend of the library `keyring` keeps secrets encrypted."""

KeyPlace = Literal["keyring", "file"]


class _Sealed(msgspec.Struct):
    """The file, as JSON."""

    version: int
    key: KeyPlace
    """Where the key is."""
    key_id: str
    """A digest of the key, which tells another key from a damaged file."""
    data: str
    """Nonce and ciphertext in Base64."""

    def bound(self) -> bytes:
        """What the ciphertext is bound to."""
        return f"{self.version}/{self.key}/{self.key_id}".encode()


class Vault:
    """The encrypted file at `path`, and its key."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._key_path = path.with_name(f"{path.name}-key")
        self._lock_path = path.with_name(f"{path.name}-lock")

    def stamp(self) -> tuple[int, ...]:
        """A value that differs after each write; empty while there is no file."""
        try:
            found = self.path.stat(follow_symlinks=False)
        except OSError:
            return ()
        return (found.st_ino, found.st_size, found.st_mtime_ns)

    def read(self) -> bytes | None:
        """The decrypted content; None if there is no file. Raises `Unusable`."""
        try:
            data = files.read(self.path, MAX_FILE)
        except FileNotFoundError:
            return None
        sealed = _sealed(data)
        key = self._key(sealed.key)
        if _digest(key) != sealed.key_id:
            raise Unusable("it was encrypted with another key", replaceable=True)
        try:
            plain = base64.b64decode(sealed.data, validate=True)
            return AESGCM(key).decrypt(plain[:_NONCE_BYTES], plain[_NONCE_BYTES:], sealed.bound())
        except (InvalidTag, ValueError):
            raise Unusable("it is damaged", replaceable=True) from None

    def write(self, content: bytes) -> None:
        """Encrypt `content` and replace the file. Raises `Unusable` and `OSError`."""
        place, key = self._current_key()
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _Sealed(VERSION, place, _digest(key), "")
        encrypted = nonce + AESGCM(key).encrypt(nonce, content, sealed.bound())
        data = msgspec.json.encode(msgspec.structs.replace(sealed, data=base64.b64encode(encrypted).decode()))
        if len(data) > MAX_FILE:
            raise Unusable(f"it would be larger than {MAX_FILE} bytes")
        files.replace(self.path, data)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that other processes wait for. Raises `Unusable` and `OSError`."""
        fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            deadline = time.monotonic() + LOCK_PATIENCE
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise Unusable(f"another process holds {self._lock_path}") from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(fd)

    # -- the key --------------------------------------------------------------------------------------------------

    def _current_key(self) -> tuple[KeyPlace, bytes]:
        """The key for a write: the one of the file if it can be had, else a new one."""
        try:
            sealed = _sealed(files.read(self.path, MAX_FILE))
            key = self._key(sealed.key)
        except FileNotFoundError:
            pass
        except Unusable as problem:
            if not problem.replaceable:
                raise
        else:
            return sealed.key, key
        key = os.urandom(_KEY_BYTES)
        if self._put_into_keyring(key):
            return "keyring", key
        with contextlib.suppress(FileNotFoundError, Unusable):
            return "file", self._key("file")
        files.replace(self._key_path, base64.b64encode(key) + b"\n")
        return "file", key

    def _key(self, place: KeyPlace) -> bytes:
        if place == "keyring":
            return self._from_keyring()
        try:
            text = files.read(self._key_path, _MAX_KEY_FILE, private=True)
        except FileNotFoundError:
            raise Unusable(f"its key file {self._key_path} is missing", replaceable=True) from None
        except Unusable as problem:
            reason = f"its key file {self._key_path} is not used: {problem}"
            raise Unusable(reason, replaceable=problem.replaceable) from None
        return _decoded(text, f"its key file {self._key_path}")

    def _from_keyring(self) -> bytes:
        backend = _keyring()
        if backend is None:
            raise Unusable("its key is in the keyring of the operating system, which this process cannot reach")
        try:
            text = backend.get_password(_SERVICE, str(self.path))
        except Exception as error:  # noqa: BLE001 - backends raise errors of many libraries
            raise Unusable(f"the keyring of the operating system cannot be opened ({type(error).__name__})") from None
        if text is None:
            raise Unusable("the keyring of the operating system does not have its key", replaceable=True)
        return _decoded(text.encode(), "its key in the keyring")

    def _put_into_keyring(self, key: bytes) -> bool:
        backend = _keyring()
        if backend is None:
            return False
        try:
            backend.set_password(_SERVICE, str(self.path), base64.b64encode(key).decode())
        except Exception:  # noqa: BLE001 - a keyring that does not work is the same as none
            return False
        return True


def _keyring() -> Any:
    """The backend of the operating system's keyring; None without one."""
    try:
        import keyring  # noqa: PLC0415 - an optional dependency

        backend = keyring.get_keyring()
        return backend if backend.priority >= _MIN_PRIORITY else None
    except Exception:  # noqa: BLE001 - not installed, or its backends cannot be loaded
        return None


def _sealed(data: bytes) -> _Sealed:
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Unusable("it is damaged", replaceable=True) from None
    if sealed.version != VERSION:
        raise Unusable("another version of the gateway wrote it", replaceable=True)
    return sealed


def _decoded(text: bytes, what: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise Unusable(f"{what} is damaged", replaceable=True)
    return key


def _digest(key: bytes) -> str:
    return hashlib.sha256(b"radium-logins/" + key).hexdigest()[:16]
