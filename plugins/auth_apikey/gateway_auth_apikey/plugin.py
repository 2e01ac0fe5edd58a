"""Prove agents by keys: `Authorization: Bearer KEY`, or a header of the key's own.

Records of keys come from the settings and from a file, which is read again when it changes. A key that has matched is
remembered in memory by a keyed digest, so that the slow hash is computed once for each key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Self

from loguru import logger
from pydantic import AfterValidator, Field, model_validator

from gateway_auth_apikey import key_file
from gateway_auth_apikey.keys import PREFIX, UNKNOWN, Key
from gateway_auth_apikey.records import Record
from gateway_auth_apikey.verifier import Verifier
from gateway_core import ConfigPath, Credentials, HeaderName, Plugin, PluginConfig, Principal, Reject, hookimpl

NAME: Final = "auth_apikey"
LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the file."""


def _readable(path: Path) -> Path:
    key_file.read(path)
    return path


class Settings(PluginConfig):
    """Settings of `auth_apikey`."""

    file: Annotated[ConfigPath, AfterValidator(_readable)] = Field(
        default=Path("mcp-proxy.keys"), description="file with the records of keys"
    )
    header: HeaderName = Field(
        default="X-Api-Key", description="header that may hold the key, besides Authorization: Bearer"
    )
    keys: tuple[Record, ...] = Field(
        default=(), description="records of further keys, as keys add --inline prints them"
    )

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        _by_id(self.keys, key_file.read(self.file))
        return self


class ApiKeys(Plugin[Settings]):
    """Recognises credentials that begin with `rad_`; all others are left to other plugins."""

    challenges = ('Bearer realm="radium"',)
    remember = 2.0
    """Seconds for which the gateway may remember a verdict; a revoked key works for at most these and `LOOK_EVERY`."""

    def __init__(self, config: Settings, now: Callable[[], float] = time.time) -> None:
        super().__init__(config)
        self._header = config.header.lower()
        self.credential_headers = tuple(dict.fromkeys(("authorization", self._header)))
        self._inline = config.keys
        self._file = config.file
        self._now = now
        self._verifier = Verifier()
        content = key_file.read(config.file)
        self._records = _by_id(config.keys, content)
        self._mark = content.mark
        self._next_look = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._is_gone = False
        self._problem = ""

    @property
    def known_groups(self) -> frozenset[str]:
        """The groups of all keys, for notes of other plugins."""
        return frozenset(group for record in self._records.values() for group in record.groups)

    async def __aenter__(self) -> Self:
        if not self._records:
            logger.warning("auth_apikey has no key yet; to make one: rad mcp proxy keys add NAME")
        return self

    async def __aexit__(self, *error: object) -> None:
        self._verifier.close()

    @hookimpl
    async def authenticate(self, credentials: Credentials) -> Principal | Reject | None:
        given = (credentials.bearer, credentials.headers.get(self._header))
        texts = {text for text in given if text is not None and text.startswith(PREFIX)}
        if not texts:
            return None
        if len(texts) > 1:
            return Reject("two different keys in one request")
        key = Key.parse(texts.pop())
        if key is None:
            return Reject("a key with a wrong form or checksum")
        await self._look()
        return await self._judge(key, credentials.address)

    async def _judge(self, key: Key, address: str) -> Principal | Reject:
        """Expired and unknown keys cost as much as wrong secrets. Raises `Busy`."""
        record = self._records.get(key.id)
        stored = UNKNOWN if record is None else record.hash
        if not self._verifier.remembers(key, stored) and not await self._verifier.verify(key, stored, address):
            return Reject(
                f"an unknown or revoked key {key.id}" if record is None else f"a wrong secret for the key {key.id}"
            )
        record = self._records.get(key.id)  # the file may have changed meanwhile
        if record is None or record.hash != stored:
            return Reject(f"the key {key.id} was revoked")
        if record.has_expired(datetime.fromtimestamp(self._now(), UTC)):
            return Reject(f"the key {key.id} has expired")
        return _principal(record)

    async def _look(self) -> None:
        """Read the file if it has changed since the last look."""
        if self._reading is None:
            now = time.monotonic()
            if now < self._next_look:
                return
            self._next_look = now + LOOK_EVERY
            mark = key_file.mark_of(self._file)
            was_gone, self._is_gone = self._is_gone, not mark
            # An editor may remove a file for a moment, so a file is gone when two looks have not found it.
            if mark == self._mark or (self._is_gone and not was_gone):
                return
            self._reading = asyncio.create_task(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            content = await asyncio.to_thread(key_file.read, self._file)
            self._records, self._mark = _by_id(self._inline, content), content.mark
            logger.info("auth_apikey read {} again; keys in use: {}", self._file, len(self._records))
            self._problem = ""
        except Exception as problem:  # noqa: BLE001 - the next look tries again
            text = str(problem) if isinstance(problem, ValueError) else type(problem).__name__
            if text != self._problem:
                logger.error("auth_apikey uses the keys last read: {}", text)
            self._problem = text
        finally:
            self._reading = None


def _by_id(inline: Iterable[Record], content: key_file.Content) -> Mapping[str, Record]:
    """All records by id. Raises `ValueError` if two have the same id."""
    found: dict[str, Record] = {}
    for record in (*inline, *content.records):
        if record.id in found:
            raise ValueError(f"the key with the id {record.id} is given twice")
        found[record.id] = record
    return found


def _principal(record: Record) -> Principal:
    claims: dict[str, Any] = {"key": record.id}
    if record.profile is not None:
        claims["profile"] = record.profile
    expires = None if record.expires is None else record.expires.timestamp()
    return Principal.proven(record.name, issuer=NAME, groups=record.groups, claims=claims, expires=expires)
