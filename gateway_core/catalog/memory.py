"""Stores the upstreams' names in a small file, so that each name has the same owner after a restart.

The file holds names and digests, no definitions: an upstream that was not reached yet keeps its names, which are
listed once it is reached. The file is bounded and carries a checksum. The gateway ignores a file that is damaged or
that others may write, and stops writing after a failed write; it logs one warning for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from loguru import logger

from gateway_core.api import Kind
from gateway_core.catalog.owners import Held, Owners
from gateway_core.config import ProxyConfig
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.read_only import read_only
from gateway_core.upstream.lists.fetched_lists import FetchedLists, Item
from gateway_core.upstream.lists.listing import MAX_ITEMS

MAX_FILE: Final = 4 * 1024 * 1024
"""Maximum size of the file in bytes; lists of upstreams that do not fit are left out."""
DELAY: Final = 1.0
"""Seconds from a change until it is written, because lists often change several times in a row."""
_CHECKSUM: Final = 64

Names = list[tuple[str, str]]
"""Name and identity of each entry of a list."""


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    rules: str
    """Digest of the configuration of names; `holders` are used only if it is unchanged."""
    lists: dict[str, dict[Kind, Names]]
    holders: list[tuple[Kind, str, list[str]]]


_DECODER: Final = msgspec.json.Decoder(_Content)


def file_of(config: Path) -> Path:
    """The names file of a configuration file: `mcp-proxy.names` beside `mcp-proxy.toml`."""
    return config.with_suffix(".names")


class Memory:
    """The recorded names of the upstreams, and the file that stores them."""

    def __init__(self, proxy: ProxyConfig, path: Path | None = None, *, writes: bool = True) -> None:
        """Read the file. Without `path`, nothing is stored; with `writes` false, the file is never changed."""
        names = [upstream.name for upstream in proxy.upstreams]
        self.owners: Final = Owners(names)
        self.lists: dict[str, FetchedLists] = {}
        """Upstream -> the lists that the file holds for it."""
        self._path = path
        self._writes = path is not None and writes
        self._rules = _rules(proxy)
        self._names = names
        self._written: bytes | None = None
        self._latest: Mapping[str, FetchedLists] | None = None
        """What the next write stores; None when everything is written."""
        self._writing: asyncio.Task[None] | None = None
        content = None if path is None else _read(path)
        if content is not None:
            self._recall(content)

    def _recall(self, content: _Content) -> None:
        for upstream in self._names:
            if upstream in content.lists:
                lists = content.lists[upstream]
                items = {kind: tuple(_item(kind, *one) for one in names[:MAX_ITEMS]) for kind, names in lists.items()}
                self.lists[upstream] = FetchedLists(items, remembered=True)
        if content.rules != self._rules:
            return
        for kind, name, holders in content.holders:
            present = tuple(holder for holder in holders if holder in self._names)
            if present:
                self.owners.holders[kind, name] = present
        self.owners.known.update((upstream, kind) for upstream, known in self.lists.items() for kind in known.items)

    def keep(self, fetched_lists: Mapping[str, FetchedLists]) -> None:
        """Schedule a write of `inventories`; without a running event loop, the next call schedules it."""
        self._latest = fetched_lists
        if not self._writes or (self._writing is not None and not self._writing.done()):
            return
        with contextlib.suppress(RuntimeError):
            self._writing = asyncio.get_running_loop().create_task(self._write_soon(), name="remember names")

    async def close(self) -> None:
        """Write what has not been written yet."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        if self._writes and self._latest is not None:
            self._write(self._latest, dict(self.owners.holders))

    async def _write_soon(self) -> None:
        while self._writes and (latest := self._latest) is not None:
            await asyncio.sleep(DELAY)
            latest = self._latest or latest
            await asyncio.to_thread(self._write, latest, dict(self.owners.holders))
            if self._latest is latest:
                self._latest = None

    def _write(self, fetched_lists: Mapping[str, FetchedLists], holders: Mapping[Held, Sequence[str]]) -> None:
        assert self._path is not None
        try:
            data = self._encoded(fetched_lists, holders)
            if data != self._written:
                _replace(self._path, data)
            self._written = data
        except (OSError, UnicodeError) as error:
            self._writes = False
            reason = error.strerror if isinstance(error, OSError) else "a name is not valid Unicode"
            logger.warning(
                "{} cannot be written ({}): after a restart names may change hands until all upstreams were reached",
                self._path,
                reason,
            )

    def _encoded(self, fetched_lists: Mapping[str, FetchedLists], holders: Mapping[Held, Sequence[str]]) -> bytes:
        content = _Content(self._rules, {}, [(kind, name, list(owners)) for (kind, name), owners in holders.items()])
        if len(jsonrpc.encode(content)) > MAX_FILE // 2:
            content = _Content(self._rules, {}, [])
        room = MAX_FILE - _CHECKSUM - 1 - len(jsonrpc.encode(content))
        for upstream, fetched in fetched_lists.items():
            lists: dict[Kind, Names] = {
                kind: [(item.name, item.identity) for item in items] for kind, items in fetched.items.items()
            }
            size = len(jsonrpc.encode({upstream: lists}))
            if size <= room:
                room -= size
                content.lists[upstream] = lists
        body = jsonrpc.encode(content)
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _item(kind: Kind, name: str, identity: str) -> Item:
    return Item(kind, name, b"", read_only({}), identity)


def _rules(proxy: ProxyConfig) -> str:
    """Digest of the settings that decide about names; after a change, owners are decided again."""
    upstreams = [
        (one.name, one.group, one.priority, "priority" in one.model_fields_set, one.tools) for one in proxy.upstreams
    ]
    plugins = [(one.name, one.enabled, repr(sorted(one.settings.items()))) for one in proxy.plugins]
    said = (proxy.separator, proxy.replicas, proxy.names.max_length, proxy.names.dots, upstreams, plugins)
    return hashlib.sha256(jsonrpc.encode(said)).hexdigest()


class _UselessError(Exception):
    """Why a file is ignored."""


def _read(path: Path) -> _Content | None:
    try:
        return _content(path)
    except FileNotFoundError:
        return None
    except (OSError, _UselessError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        logger.warning("{} is ignored: {}; names are settled by the order of the configuration", path, reason)
        return None


def _content(path: Path) -> _Content:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _UselessError("it is no ordinary file")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (0, os.geteuid()):
            raise _UselessError("others may write to it")
        data = file.read(MAX_FILE + 1)
    body = data[_CHECKSUM + 1 :]
    if len(data) > MAX_FILE or data[:_CHECKSUM] != hashlib.sha256(body).hexdigest().encode():
        raise _UselessError("it is damaged")
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise _UselessError("another version of the gateway wrote it") from None


def _replace(path: Path, data: bytes) -> None:
    """Replace a file atomically: a crash leaves the old one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
