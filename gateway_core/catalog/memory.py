"""Stores the upstreams' names in a small file, so that each name has the same owner after a restart.

The file holds names and digests, no definitions: an upstream that was not reached yet keeps its names, which are
listed once it is reached. The file is bounded and carries a version and a checksum. The gateway ignores a file that is
damaged or that others may write, and it starts without a file that it cannot write; it logs one warning for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core import files
from gateway_core.api import Kind
from gateway_core.catalog.owners import Held, Owners
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.files import Unusable
from gateway_core.mcp import jsonrpc
from gateway_core.upstream.lists.fetched_lists import FetchedLists, Item
from gateway_core.upstream.lists.listing import MAX_ITEMS

VERSION: Final = 1
"""Version of the file's contents; incremented when a field changes."""
MAX_FILE: Final = 4 * 1024 * 1024
"""Maximum size of the file in bytes. If not all upstreams fit, the largest are left out."""
DELAY: Final = 1.0
"""Seconds from a change until it is written, because lists often change several times in a row."""

Names = list[tuple[str, str]]
"""Name and identity of each entry of a list."""


class _Record(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What the file holds for one upstream."""

    generation: int
    """See `Owners`."""
    known: list[Kind] = []
    """The lists that took part in an assignment of names."""
    lists: dict[Kind, Names] = {}
    names: dict[Kind, list[str]] = {}
    """The published names that it holds, oldest first."""


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    upstreams: dict[str, _Record]


_DECODER: Final = msgspec.json.Decoder(_Content)


def file_of(config: Path) -> Path:
    """The names file of a configuration file: `mcp-proxy.names` beside `mcp-proxy.toml`."""
    return config.with_suffix(".names")


class _File:
    """The file, which several generations of a configuration write one after the other."""

    def __init__(self, path: Path | None) -> None:
        """Without `path`, nothing is stored."""
        self._path = path
        self._numbers: Final = count(1)
        self._lock: Final = threading.Lock()
        """Guards what `write` uses, because it runs in threads."""
        self._number = 0
        """The newest state that was written."""
        self._written: bytes | None = None
        self._failed = False
        """Whether the last write failed."""
        self._too_large: set[str] = set()
        """The upstreams that were reported because they do not fit."""

    @property
    def exists(self) -> bool:
        """Whether there is a file to write to."""
        return self._path is not None

    def next_number(self) -> int:
        """The number of the next state; states are numbered in their order."""
        return next(self._numbers)

    def write(self, number: int, records: Mapping[str, _Record]) -> None:
        """Write a state of the names, unless a newer one was written already."""
        with self._lock:
            if number < self._number:
                return
            self._number = number
            data, left_out = _encoded(records)
            for upstream in left_out.difference(self._too_large):
                logger.warning(
                    "upstream {} has too many names for {}: after a restart another upstream may get them",
                    upstream,
                    self._path,
                )
            self._too_large |= left_out
            if data != self._written:
                self._replace(data)

    def _replace(self, data: bytes) -> None:
        assert self._path is not None
        try:
            files.replace(self._path, data)
            self._written, self._failed = data, False
        except OSError as error:
            if not self._failed:
                logger.warning(
                    "{} cannot be written ({}): after a restart names may change hands until all upstreams were "
                    "reached. The gateway tries again when a list changes",
                    self._path,
                    error.strerror,
                )
            self._failed = True


class Memory:
    """The recorded names of the upstreams, and the file that stores them."""

    def __init__(
        self,
        proxy: ProxyConfig,
        path: Path | None = None,
        *,
        writes: bool = True,
        disabled: Sequence[str] = (),
        before: Memory | None = None,
    ) -> None:
        """Read the file. Without `path`, nothing is stored; with `writes` false, the file is never changed.

        `disabled`: the upstreams that the configuration switches off, which keep their names. `before`: the memory of
        an earlier configuration, which this one continues in place of reading the file; it writes nothing before
        `begin`.
        """
        if before is None:
            content = None if path is None else _read(path)
            records: Mapping[str, _Record] = {} if content is None else content.upstreams
            self._file = _File(path if writes else None)
        else:
            records, self._file = before._records(before._kept), before._file
        latest = max((record.generation for record in records.values()), default=-1)
        names = [*disabled, *(upstream.name for upstream in proxy.upstreams)]
        generations = {name: records[name].generation if name in records else latest + 1 for name in names}
        self.owners: Final = Owners(generations)
        self.lists: dict[str, FetchedLists] = {}
        """Upstream -> the lists that the file holds for it."""
        self._dormant = {name: records[name].lists for name in disabled if name in records}
        self._latest: Mapping[str, FetchedLists] | None = None
        """What the next write stores; None when everything is written."""
        self._writing: asyncio.Task[None] | None = None
        self._in_force = before is None
        """Whether it writes the file; an earlier configuration does otherwise."""
        for upstream in proxy.upstreams:
            if upstream.name in records and (lists := records[upstream.name].lists):
                items = {kind: _items(kind, names, upstream) for kind, names in lists.items()}
                self.lists[upstream.name] = FetchedLists(items, remembered=True)
        self._kept: Mapping[str, FetchedLists] = self.lists
        """The lists of the last `keep`."""
        self._recall({name: records[name] for name in names if name in records})

    def _recall(self, records: Mapping[str, _Record]) -> None:
        holders: dict[Held, list[str]] = {}
        known: list[tuple[str, Kind]] = []
        for upstream, record in records.items():
            known.extend((upstream, kind) for kind in record.known)
            for kind, names in record.names.items():
                for name in names:
                    holders.setdefault((kind, name), []).append(upstream)
        self.owners.recall(holders, known)

    def keep(self, fetched_lists: Mapping[str, FetchedLists]) -> None:
        """Schedule a write of `fetched_lists`; without a running event loop, the next call schedules it."""
        self._latest = self._kept = fetched_lists
        if not self._in_force or not self._file.exists or (self._writing is not None and not self._writing.done()):
            return
        with contextlib.suppress(RuntimeError):
            self._writing = asyncio.get_running_loop().create_task(self._write_soon(), name="remember names")

    def begin(self) -> None:
        """Write the file from now on: the configuration is in force."""
        self._in_force = True
        self.keep(self._kept)  # also upstreams without names may have come or gone

    async def close(self) -> None:
        """Write what has not been written yet."""
        await self._stop_writing()
        if self._in_force and self._file.exists and self._latest is not None:
            await asyncio.to_thread(self._file.write, self._file.next_number(), self._records(self._latest))

    async def leave(self) -> None:
        """Write nothing any more: the memory of another configuration continues."""
        self._in_force = False
        await self._stop_writing()

    async def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])

    async def _write_soon(self) -> None:
        while (latest := self._latest) is not None:
            await asyncio.sleep(DELAY)
            latest = self._latest or latest
            await asyncio.to_thread(self._file.write, self._file.next_number(), self._records(latest))
            if self._latest is latest:
                self._latest = None

    def _records(self, fetched_lists: Mapping[str, FetchedLists]) -> dict[str, _Record]:
        """The present state, as the file holds it."""
        records = {
            name: _Record(generation, [], dict(self._dormant.get(name, {})), {})
            for name, generation in self.owners.generations.items()
        }
        for upstream, kind in sorted(self.owners.known):
            records[upstream].known.append(kind)
        for upstream, fetched in fetched_lists.items():
            for kind, items in fetched.items.items():
                records[upstream].lists[kind] = [(item.name, item.identity) for item in items]
        for (kind, name), owners in self.owners.holders.items():
            for owner in owners:
                records[owner].names.setdefault(kind, []).append(name)
        return records


def _items(kind: Kind, names: Names, config: UpstreamConfig) -> tuple[Item, ...]:
    allowed = config.tools if kind == "tool" else None
    return tuple(
        Item(kind, name, b"", identity) for name, identity in names[:MAX_ITEMS] if allowed is None or name in allowed
    )


def _encoded(records: Mapping[str, _Record]) -> tuple[bytes, set[str]]:
    """The file's contents, and the upstreams whose names do not fit.

    Smaller records come first, so that an upstream with many names does not displace the names of others.
    """
    bare = {name: jsonrpc.encode(_Record(record.generation)) for name, record in records.items()}
    room = MAX_FILE - files.CHECKSUM_SIZE - len(jsonrpc.encode({"version": VERSION, "upstreams": _raw(bare)}))
    chosen, left_out = dict(bare), set[str]()
    full = {name: jsonrpc.encode(record) for name, record in records.items()}
    for name in sorted(full, key=lambda name: len(full[name])):
        without_lists = _Record(records[name].generation, records[name].known, {}, records[name].names)
        for data in (full[name], jsonrpc.encode(without_lists)):
            size = len(data) - len(bare[name])
            if size <= room:
                room -= size
                chosen[name] = data
                break
        else:
            left_out.add(name)
    body = jsonrpc.encode({"version": VERSION, "upstreams": _raw(chosen)})
    return files.with_checksum(body), left_out


def _raw(encoded: Mapping[str, bytes]) -> dict[str, Raw]:
    return {name: Raw(data) for name, data in encoded.items()}


def _read(path: Path) -> _Content | None:
    try:
        return _content(path)
    except FileNotFoundError:
        return None
    except Unusable as problem:
        logger.warning("{} is ignored: {}; the file order decides which upstream gets a name", path, problem)
        return None


def _content(path: Path) -> _Content:
    body = files.without_checksum(files.read(path, MAX_FILE))
    try:
        content = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise Unusable("another version of the gateway wrote it") from None
    if content.version != VERSION:
        raise Unusable("another version of the gateway wrote it")
    return content
