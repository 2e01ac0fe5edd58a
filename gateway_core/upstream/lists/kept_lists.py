"""Stores the last known lists of each upstream on disk: after a start, agents get complete lists at once.

The folder holds one file for each upstream, so that a damaged file costs only the lists of one. Files are bounded,
carry a checksum and have mode 0600, because definitions can be confidential. A file is ignored if it is damaged, if
others may write to it or to the folder, or if it is of a server with other settings. Without a writable folder, nothing
is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from loguru import logger

from gateway_core import files
from gateway_core.config import UpstreamConfig
from gateway_core.files import Unusable
from gateway_core.mcp.sdk import SDK
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from gateway_core.upstream.lists.kept_record import Known, decoded, encoded, identifying, kept_part

MAX_FILE: Final = 8 * 1024 * 1024
"""Maximum size of one file in bytes. Larger lists are not kept."""
MAX_TOTAL: Final = 64 * 1024 * 1024
"""Maximum size of all files in bytes. Lists that would exceed it are not kept."""
DELAY: Final = 2.0
"""Seconds from a change until it is written, because lists often change several times in a row."""
_SUFFIX: Final = ".json"


class _Change(NamedTuple):
    """What is to be written."""

    number: int
    """Changes are numbered in their order."""
    config: UpstreamConfig
    known: Known | None


def folder_of(config: Path) -> Path:
    """The folder of a configuration file: `mcp-proxy.lists` beside `mcp-proxy.toml`."""
    return config.with_suffix(".lists")


class KeptLists:
    """The kept lists of all upstreams of one configuration file."""

    def __init__(self, folder: Path | None = None, clean: Callable[[bytes], bytes] = bytes) -> None:
        """Without `folder`, nothing is kept. `clean` hides the secrets of the gateway."""
        self._folder = folder
        self._clean = clean
        self._read: dict[str, tuple[UpstreamConfig, Known | None]] = {}
        """What `read` has found, until an upstream takes it."""
        self._last: dict[str, tuple[str, Known | None]] = {}
        """What was read or kept last, with the settings that identify the server."""
        self._changes: dict[str, _Change] = {}
        """What is not written yet."""
        self._numbers: Final = count(1)
        self._written: dict[str, int] = {}
        """Upstream -> the number of the newest change that was written."""
        self._writing: asyncio.Task[None] | None = None
        self._lock: Final = threading.Lock()
        """Held while files are written, because that runs in threads."""
        self._reported: set[str] = set()
        """The upstreams whose lists could not be kept, as the log says."""

    def known(self, config: UpstreamConfig) -> Known | None:
        """The last known lists of an upstream, which an earlier process may have fetched."""
        read = self._read.pop(config.name, None)
        known = read[1] if read is not None and read[0] == config else self._known(config)
        if known is not None:
            self._last[config.name] = (identifying(config), known)
            if any(item.header_map for item in known.lists.of("tool")):
                SDK.load_soon()
        return known

    async def read(self, configs: Iterable[UpstreamConfig]) -> None:
        """Read the files of these upstreams in a thread, so that `known` does not block the event loop."""
        if self._folder is not None:
            wanted = tuple(configs)
            await self._write_now()
            found = await asyncio.to_thread(lambda: [(it, self._known(it)) for it in wanted])
            self._read = {config.name: (config, known) for config, known in found}

    def _known(self, config: UpstreamConfig) -> Known | None:
        if self._folder is None or config.misconfigured:
            return None
        path = self._file(config.name)
        try:
            files.check_folder(self._folder)
            return decoded(files.read(path, MAX_FILE), config, self._clean)
        except FileNotFoundError:
            return None
        except Unusable as problem:
            logger.warning("{} is ignored: {}; the lists are known once the upstream is reached", path, problem)
            return None

    def keep(self, config: UpstreamConfig, info: ServerInfo | None, lists: FetchedLists) -> None:
        """Schedule a write of the lists of an upstream. `info`: None if they are only those of principals."""
        if self._folder is None:
            return
        latest = identifying(config), kept_part(config, info, lists)
        if self._last.get(config.name) == latest:
            return
        self._last[config.name] = latest
        self._changes[config.name] = _Change(next(self._numbers), config, latest[1])
        if self._writing is None or self._writing.done():
            with contextlib.suppress(RuntimeError):
                self._writing = asyncio.get_running_loop().create_task(self._write_soon(), name="keep lists")

    async def retain(self, names: Collection[str]) -> None:
        """Remove the files of all other upstreams."""
        if self._folder is not None:
            kept = frozenset(names)
            self._last = {name: known for name, known in self._last.items() if name in kept}
            self._changes = {name: change for name, change in self._changes.items() if name in kept}
            await asyncio.to_thread(self._remove_others, kept)

    async def close(self) -> None:
        """Write what has not been written yet."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        await self._write_now()

    async def _write_soon(self) -> None:
        while self._changes:
            await asyncio.sleep(DELAY)
            await self._write_now()

    async def _write_now(self) -> None:
        changes, self._changes = self._changes, {}
        if changes:
            await asyncio.shield(asyncio.to_thread(self._write, changes))

    # -- in threads -----------------------------------------------------------------------------------------------

    def _write(self, changes: Mapping[str, _Change]) -> None:
        with self._lock:
            for name, (number, config, known) in changes.items():
                if number < self._written.get(name, 0):
                    continue
                self._written[name] = number
                data = None if known is None else encoded(config, known)
                problem = ""
                try:
                    problem = self._replace(name, data)
                except OSError as error:
                    problem = f"{self._file(name)} cannot be written ({error.strerror})"
                except Unusable as unusable:
                    problem = f"the folder {self._folder} is not used, because {unusable}"
                if not problem:
                    self._reported.discard(name)
                elif name not in self._reported:
                    self._reported.add(name)
                    logger.warning(
                        "the lists of upstream {} are not kept: {}; after a restart agents get them once it is reached",
                        name,
                        problem,
                    )

    def _replace(self, name: str, data: bytes | None) -> str:
        """Write or remove a file. Returns why it cannot be kept, if it is too large. Raises `OSError`, `Unusable`."""
        assert self._folder is not None
        path, problem = self._file(name), ""
        with contextlib.suppress(FileNotFoundError):
            files.check_folder(self._folder)
        if data is not None and len(data) > MAX_FILE:
            problem = f"they take more than {MAX_FILE >> 20} MiB"
        elif data is not None and self._size_without(path) + len(data) > MAX_TOTAL:
            problem = f"all lists take more than {MAX_TOTAL >> 20} MiB"
        if data is None or problem:
            path.unlink(missing_ok=True)
            return problem
        self._folder.mkdir(mode=0o700, exist_ok=True)
        files.replace(path, data)
        return ""

    def _size_without(self, path: Path) -> int:
        return sum(found.stat(follow_symlinks=False).st_size for found in self._entries() if found.name != path.name)

    def _remove_others(self, names: Collection[str]) -> None:
        assert self._folder is not None
        with self._lock, contextlib.suppress(OSError, Unusable):
            files.check_folder(self._folder)
            for found in self._entries():
                if found.name.endswith(_SUFFIX) and found.name.removesuffix(_SUFFIX) not in names:
                    os.unlink(found.path)

    def _entries(self) -> list[os.DirEntry[str]]:
        assert self._folder is not None
        try:
            with os.scandir(self._folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def _file(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{name}{_SUFFIX}"


NOTHING_KEPT: Final = KeptLists()
