"""Sessions that outlive the process: their records in a file, from a stop to the next start.

The file gives no access to a session, and shows nothing of it: each record is sealed with the id of its session, which
only its agent has, and bound to the caller. It holds no credentials: the next request of the agent proves who it is. An
entry leaves the file when the next process reads it, and becomes a session again with the next request of its agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec
from loguru import logger

from gateway_core import files
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.sessions.due import Due
from gateway_core.downstream.sessions.record import SessionRecord
from gateway_core.files import Unusable
from gateway_core.log.wording import count
from gateway_core.sealing import Seal

VERSION: Final = 1
"""Version of the file's contents; incremented when a field changes."""
MAX_FILE: Final = 16 * 1024 * 1024
"""Maximum size of the file in bytes. If not all sessions fit, those that were unused for longest are left out."""
MAX_RECORD: Final = 64 * 1024
"""Maximum size of a record in bytes, before it is sealed. The agent of a larger one begins a new session."""
_OVERHEAD: Final = 160
"""Maximum bytes of an entry besides its sealed record."""


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    """The file, as JSON behind its checksum."""

    version: int
    sessions: dict[str, _Entry]
    """By the digest of the session id."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    until: float
    """When the session expires, in seconds since the epoch."""
    sealed: str


class _Kept(msgspec.Struct):
    """What is sealed: the fields of `SessionRecord` that are not about one process."""

    owner: str
    protocol_version: str
    client_info: bytes
    capabilities: bytes
    ready: bool
    log_level: str
    uris: list[str]


_CONTENT: Final = msgspec.json.Decoder(_Content)
_KEPT: Final = msgspec.json.Decoder(_Kept)


class KeptSessions:
    """The sessions of an earlier process that no agent has used since."""

    def __init__(self, path: Path | None = None) -> None:
        """Without `path`, nothing is read or written."""
        self._path = path
        self._entries: dict[str, _Entry] = {}
        self._expiry: Due[str] = Due()
        self._loaded = False

    def __len__(self) -> int:
        return len(self._entries)

    async def load(self, idle: float) -> None:
        """Read the file and remove it. A file that cannot be used is ignored, with a warning.

        `idle`: seconds after which an unused session expires.
        """
        if self._path is None:
            return
        self._loaded = True
        try:
            content = await asyncio.to_thread(_read, self._path)
        except FileNotFoundError:
            return
        except Unusable as problem:
            logger.warning("{} is ignored: {}; agents with sessions begin new ones", self._path, problem)
            return
        now = time.time()
        for digest, entry in content.sessions.items():
            until = min(entry.until, now + idle)  # the clock may be set back
            self._entries[digest] = _Entry(until, entry.sealed)
            self._expiry.put(digest, until)
        self.expire()
        if self._entries:
            logger.info("{} of agents can go on", count(len(self._entries), "session"))

    def take(self, session_id: str, caller: Caller, now: float) -> SessionRecord | None:
        """The record of the session with that id, which is kept no longer; None unless that caller opened it.

        `now`: the time on the clock of the record.
        """
        if not self._entries:
            return None
        digest = _digest(session_id)
        entry = self._entries.get(digest)
        if entry is None or entry.until <= time.time():
            return None
        plain = Seal([session_id]).open(_bound(digest, caller), entry.sealed)
        if plain is None:
            return None
        del self._entries[digest]
        self._expiry.remove(digest)
        try:
            kept = _KEPT.decode(plain)
        except msgspec.DecodeError:
            return None
        return SessionRecord(
            session_id,
            caller,
            kept.owner,
            now,
            protocol_version=kept.protocol_version,
            client_info=kept.client_info,
            capabilities=kept.capabilities,
            ready=kept.ready,
            log_level=kept.log_level,
            uris=kept.uris,
        )

    def expire(self) -> None:
        """Forget the sessions that have expired."""
        for digest in self._expiry.take(time.time()):
            del self._entries[digest]

    async def save(self, records: Collection[SessionRecord], now: float, idle: float) -> None:
        """Write these sessions, and those that are still kept. A failure is logged: those sessions are lost.

        `now`: the time on the clock of the records. `idle`: see `load`.
        """
        if self._path is None or not self._loaded:  # sessions that were not read must not be lost
            return
        self.expire()
        try:
            written = await asyncio.to_thread(self._write, self._path, list(records), now, idle)
        except OSError as error:
            logger.warning("{} cannot be written ({}): agents with sessions begin new ones", self._path, error.strerror)
        else:
            if written:
                logger.info("kept {} of agents for the next start", count(written, "session"))

    def _write(self, path: Path, records: list[SessionRecord], now: float, idle: float) -> int:
        """Write the file; returns the number of sessions in it."""
        entries, wall = dict(self._entries), time.time()
        for record in records:
            left = idle if record.busy else idle - (now - record.used)
            if left > 0 and (sealed := _sealed(record)) is not None:
                entries[_digest(record.id)] = _Entry(wall + left, sealed)
        newest = sorted(entries.items(), key=lambda pair: pair[1].until, reverse=True)
        size, chosen = files.CHECKSUM_SIZE + _OVERHEAD, dict[str, _Entry]()
        for digest, entry in newest:
            size += len(entry.sealed) + _OVERHEAD
            if size > MAX_FILE:
                break
            chosen[digest] = entry
        if not chosen:
            path.unlink(missing_ok=True)
            return 0
        body = msgspec.json.encode(_Content(VERSION, chosen))
        files.replace(path, files.with_checksum(body))
        return len(chosen)


def _sealed(record: SessionRecord) -> str | None:
    """The sealed record; None if it is too large."""
    kept = _Kept(
        record.owner,
        record.protocol_version,
        record.client_info,
        record.capabilities,
        record.ready,
        record.log_level,
        record.uris,
    )
    plain = msgspec.json.encode(kept)
    if len(plain) > MAX_RECORD:
        return None
    return Seal([record.id]).seal(_bound(_digest(record.id), record.caller), plain)


def _digest(session_id: str) -> str:
    return hashlib.sha256(b"kept session " + session_id.encode("utf-8", "surrogateescape")).hexdigest()


def _bound(digest: str, caller: Caller) -> tuple[str, ...]:
    """What a sealed record is bound to: its place in the file, and who may use the session."""
    return "kept session", digest, caller.key


def _read(path: Path) -> _Content:
    """The content of the file, which is removed: an entry is used once. Raises `FileNotFoundError` and `Unusable`."""
    data = files.read_private(path, MAX_FILE)
    with contextlib.suppress(OSError):
        path.unlink()
    body = files.without_checksum(data)
    try:
        content = _CONTENT.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise Unusable("another version of the gateway wrote it") from None
    if content.version != VERSION:
        raise Unusable("another version of the gateway wrote it")
    return content
