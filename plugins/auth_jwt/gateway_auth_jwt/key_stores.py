"""Keep the current keys of an issuer: from its server, or from a file."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from loguru import logger

from gateway_auth_jwt.discovery import find_jwks_uri
from gateway_auth_jwt.fetcher import MAX_DOCUMENT, Fetcher, FetchError
from gateway_auth_jwt.key_set import KeySet, PublicKey
from gateway_core import UnusableFile, check_public_file

REFRESH: Final = 600.0
"""Seconds after which keys are fetched again, so that one that left the set is not used for longer."""
UNKNOWN_KEY: Final = 60.0
"""Minimum seconds between two requests for the sake of an unknown `kid`."""
RETRY: Final = 5.0
"""Minimum seconds between two attempts while the server fails."""
MAX_STALE: Final = 3600.0
"""Seconds for which keys are used while the server cannot be asked."""
ATTEMPT: Final = 20.0
"""Seconds for one attempt: discovery and the keys."""
WAIT: Final = 5.0
"""Maximum seconds that a token waits for keys. An attempt that takes longer continues without it."""
MAX_WAITING: Final = 64
"""Maximum number of tokens that wait for the keys of one issuer; the gateway judges few at a time."""


class KeysUnavailableError(Exception):
    """It is not known which keys the issuer has, so that a token can be neither accepted nor refused."""


class KeyStore(Protocol):
    """The current keys of one issuer."""

    async def open(self) -> None:
        """Begin to fetch the keys, without waiting for them."""

    async def find(self, key_id: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        """The keys that may have signed a token. Raises `KeysUnavailableError`."""

    async def close(self) -> None:
        """Release connections and tasks."""

    @property
    def warning(self) -> str:
        """What is wrong with the files of the issuer at present, for `status`; usually empty."""


class RemoteKeys:
    """The keys that an issuer publishes. At most one attempt to fetch them is under way."""

    def __init__(
        self,
        issuer: str,
        fetcher: Fetcher,
        jwks_uri: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`jwks_uri`: None to find it by discovery, each time."""
        self._issuer = issuer
        self._fetcher = fetcher
        self._jwks_uri = jwks_uri
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched = 0.0
        """When the keys were fetched."""
        self._attempted = -UNKNOWN_KEY
        """When the last attempt began."""
        self._failure: str | None = None
        """Why the last attempt failed."""
        self._attempt: asyncio.Task[None] | None = None
        self._waiting = 0

    async def open(self) -> None:
        self._begin(RETRY)

    async def find(self, key_id: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        if self._keys is None or self._clock() - self._fetched >= REFRESH:
            await self._refresh(RETRY)
        found = self._usable().find(key_id, algorithm)
        if not found:
            await self._refresh(UNKNOWN_KEY if self._failure is None else RETRY)
            found = self._usable().find(key_id, algorithm)
        if not found and (self._attempt is not None or self._failure is not None):
            raise KeysUnavailableError(f"the key of a token of {self._issuer} is not known, and it cannot be asked for")
        return found

    async def close(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait([self._attempt])
        await self._fetcher.close()

    @property
    def warning(self) -> str:
        return self._fetcher.warning

    def _usable(self) -> KeySet:
        if self._keys is None or self._clock() - self._fetched >= MAX_STALE:
            raise KeysUnavailableError(f"the keys of {self._issuer} are not known: {self._failure or 'no answer yet'}")
        return self._keys

    async def _refresh(self, interval: float) -> None:
        """Fetch the keys, unless the last attempt began less than `interval` seconds ago. Waits for a limited time."""
        attempt = self._begin(interval)
        if attempt is None or self._waiting >= MAX_WAITING:
            return
        self._waiting += 1
        try:
            await asyncio.wait([attempt], timeout=max(0.0, self._attempted + WAIT - self._clock()))
        finally:
            self._waiting -= 1

    def _begin(self, interval: float) -> asyncio.Task[None] | None:
        """The attempt under way, perhaps a new one; None if the last one began less than `interval` seconds ago."""
        now = self._clock()
        if self._attempt is None and now - self._attempted >= interval:
            self._attempted = now
            self._attempt = asyncio.create_task(self._fetch(), name=f"fetch the keys of {self._issuer}")
        return self._attempt

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(ATTEMPT):
                self._keys = await self._fetched_keys()
            self._fetched = self._clock()
            self._failure = None
        except (FetchError, TimeoutError) as problem:
            self._failure = str(problem) or f"no answer within {ATTEMPT:g} s"
            logger.warning("the keys of {} could not be fetched: {}", self._issuer, self._failure)
        finally:
            self._attempt = None

    async def _fetched_keys(self) -> KeySet:
        if self._jwks_uri is None:
            url = await find_jwks_uri(self._fetcher, self._issuer)
        else:
            url = self._fetcher.address(self._jwks_uri)
        body = await self._fetcher.get(url)
        if body is None:
            raise FetchError(f"there is no key set at {url}")
        try:
            return KeySet.parse(body)
        except ValueError as problem:
            raise FetchError(f"its key set at {url} cannot be used: {problem}") from None


class FileKeys:
    """The keys in a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Raises `ValueError` or `OSError` if the file cannot be used."""
        self._path = path
        self._state: tuple[int, ...] = ()
        self._keys = self._read()
        self._warning = ""

    async def open(self) -> None:
        """The keys are read already."""

    async def find(self, key_id: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        try:
            keys = self._read()
        except (OSError, ValueError) as problem:
            self._warning = f"the keys in {self._path} cannot be used: {problem}"
            raise KeysUnavailableError(self._warning) from None
        self._warning = ""
        return keys.find(key_id, algorithm)

    async def close(self) -> None:
        """There is nothing to release."""

    @property
    def warning(self) -> str:
        return self._warning

    def _read(self) -> KeySet:
        status = self._path.stat()
        state = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        if state != self._state:
            self._keys, self._state = read_keys(self._path), state
        return self._keys


def read_keys(path: Path) -> KeySet:
    """The keys in a file. Raises `ValueError` or `OSError`."""
    if path.exists() and not path.is_file():  # a named pipe would hold up the event loop
        raise ValueError("it is no ordinary file")
    with path.open("rb") as file:
        try:
            check_public_file(path, os.fstat(file.fileno()))
        except UnusableFile as problem:
            raise ValueError(str(problem)) from None
        body = file.read(MAX_DOCUMENT + 1)
    if len(body) > MAX_DOCUMENT:
        raise ValueError(f"it is larger than {MAX_DOCUMENT} bytes")
    return KeySet.parse(body)
