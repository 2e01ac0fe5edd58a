"""Compares the lists of upstreams in a thread, one after the other, because lists can be large.

Comparisons delay neither lists nor calls. An upstream whose lists are large and change often is compared less often.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from loguru import logger

from gateway_core.activity.definitions.differences import Differences, differences
from gateway_core.api import Kind
from gateway_core.supervised import cancel_all, failed
from gateway_core.upstream.status import Definition, Definitions, PrivateTo

MAX_AT_ONCE: Final = 200
"""Changes of one server at once that are kept."""
PAUSE: Final = 20.0
"""Seconds between two comparisons of one upstream for each processor second of the first one."""
MAX_PAUSE: Final = 60.0
"""The most seconds between two comparisons of one upstream."""
CLOSE: Final = 5.0
"""Seconds that the end of the gateway waits for comparisons."""
MAX_PRIVATE: Final = 32
"""Private lists of agents that wait to be compared; those of further agents are not compared."""
MAX_REMOVED: Final = 4 * 1024 * 1024
"""Bytes of removed definitions that are remembered: if one comes back, it is compared."""
_ENTRY: Final = 1024
"""Bytes that a remembered definition takes besides itself."""


class _Ended(Exception):
    """The gateway does not wait for the comparison any longer."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Lists to compare."""

    before: Definitions
    after: Definitions
    private: PrivateTo | None


class Comparisons:
    """The comparisons of all upstreams."""

    def __init__(self, take: Callable[[str, Differences, bool], None], clean: Callable[[bytes], bytes]) -> None:
        """`take`: called with an upstream, what differs, and whether these are private lists of one agent. `clean`:
        hides secrets in a text; the thread calls it."""
        self._take = take
        self._clean = clean
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        """Upstream, and whose private lists these are -> the lists to compare."""
        self._not_before: dict[str, float] = {}
        """Upstream -> the time of the loop from which it is compared again."""
        self._current = ""
        """The upstream that is compared."""
        self._took = 0.0
        """Processor seconds of the last comparison."""
        self._running: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._closing = False
        self._ended = False
        """Whether the thread has to end."""
        self._removed = _Removed()

    def add(self, upstream: str, before: Definitions, after: Definitions, private: PrivateTo | None = None) -> None:
        """Compare these lists soon. Lists that change again meanwhile are compared once, first with last.

        `private`: whose lists they are; of those, only definitions in both are compared.
        """
        key = upstream, "" if private is None else private.viewer
        if private is not None and key not in self._waiting and self._waits_private >= MAX_PRIVATE:
            return
        known = self._waiting.pop(key, None)
        earlier, later = ({}, {}) if known is None else (known.before, known.after)
        self._waiting[key] = _Waiting({**before, **earlier}, {**later, **after}, private)
        self._woken.set()
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._run(), name="compare definitions")

    @property
    def _waits_private(self) -> int:
        return sum(it.private is not None for it in self._waiting.values())

    async def close(self) -> None:
        """Compare what waits, for `CLOSE` seconds at most. Comparisons that do not end in time are logged."""
        self._closing = True
        self._woken.set()
        if self._running is None:
            return
        await asyncio.wait([self._running], timeout=CLOSE)
        if not self._running.done():
            self._ended = True
            await cancel_all([self._running])
            logger.warning(
                "the gateway stops before it has compared the definitions of {}: their changes are not shown",
                ", ".join(dict.fromkeys([self._current, *(upstream for upstream, _ in self._waiting)])),
            )

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            now = loop.time()
            self._not_before = {name: at for name, at in self._not_before.items() if at > now}
            key = min(self._waiting, key=lambda one: self._not_before.get(one[0], now))
            upstream = key[0]
            pause = self._not_before.get(upstream, now) - now
            if pause > 0 and not self._closing:
                self._woken.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), pause)
                continue
            self._current = upstream
            waiting = self._waiting.pop(key)
            try:
                found = await asyncio.to_thread(self._compare, upstream, waiting)
                if found.found:
                    self._take(upstream, found, waiting.private is not None)
            except Exception as error:  # noqa: BLE001 - a bug here must not end the comparisons of other servers
                failed(f"comparing the definitions of upstream {upstream}", error)
            self._not_before[upstream] = loop.time() + min(MAX_PAUSE, PAUSE * self._took)

    def _compare(self, upstream: str, lists: _Waiting) -> Differences:
        """What differs. Runs in the thread."""
        start = time.thread_time()
        before, after, private = lists.before, lists.after, lists.private
        try:
            if private is not None:
                clean = partial(_hidden, self._clean, private.hide)
                return differences(*_in_both(before, after), clean, MAX_AT_ONCE, self._check)
            before = self._removed.restored(upstream, before, after)
            found = differences(before, after, self._clean, MAX_AT_ONCE, self._check)
            self._removed.keep(upstream, found, before)
        finally:
            self._took = time.thread_time() - start
        return found

    def _check(self) -> None:
        if self._ended:
            raise _Ended


def _hidden(clean: Callable[[bytes], bytes], hide: Callable[[str], str], data: bytes) -> bytes:
    return hide(clean(data).decode(errors="replace")).encode(errors="replace")


def _in_both(before: Definitions, after: Definitions) -> tuple[Definitions, Definitions]:
    """The definitions whose names both have: an agent may be allowed to see more or less than before."""
    names = {kind: {it.name for it in before.get(kind, ())} & {it.name for it in after[kind]} for kind in after}
    one, other = (
        {kind: [it for it in lists.get(kind, ()) if it.name in known] for kind, known in names.items()}
        for lists in (before, after)
    )
    return one, other


class _Removed:
    """Definitions that servers no longer publish: a definition that comes back is compared with the earlier one."""

    def __init__(self) -> None:
        self._items: OrderedDict[tuple[str, Kind, str], Definition] = OrderedDict()
        self._size = 0

    def restored(self, upstream: str, before: Definitions, after: Definitions) -> Definitions:
        """`before`, with the earlier definitions of what comes back in `after`."""
        if not self._items:
            return before
        found = dict(before)
        for kind, items in after.items():
            present = {item.name for item in before.get(kind, ())}
            names = [item.name for item in items if item.name not in present]
            back = [it for name in names if (it := self._forget((upstream, kind, name))) is not None]
            found[kind] = (*before.get(kind, ()), *back)
        return found

    def keep(self, upstream: str, found: Differences, before: Definitions) -> None:
        """Remember the definitions that are removed, as `before` has them; the oldest ones are forgotten."""
        gone = {(kind, name) for kind, name, what in found.found if what == "removed"}
        if not gone:
            return
        for kind, items in before.items():
            for item in items:
                if (kind, item.name) in gone:
                    self._items[upstream, kind, item.name] = item
                    self._size += len(item.raw) + _ENTRY
        while self._size > MAX_REMOVED:
            self._forget(next(iter(self._items)))

    def _forget(self, key: tuple[str, Kind, str]) -> Definition | None:
        item = self._items.pop(key, None)
        if item is not None:
            self._size -= len(item.raw) + _ENTRY
        return item
