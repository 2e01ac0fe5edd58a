"""The memory budget of the process: how much it may use, how much it uses, and who holds the large payloads.

Two measures work together. `poll` reads how much memory the process uses, several times a second.
`reserve` counts the bytes of large payloads on their way, from their announcement on, because many can arrive between
two polls. `keep` counts what stays: lists, stored events, answers that an agent does not read. Payloads that arrive in
one piece are not counted: the limits on their number bound them.

- From `TIGHT` of the budget on, new work is refused (`MemoryBudget.check`), and so is everything to be counted that
  would reach it. Work in flight continues.
- From `FULL` on, what is idle is given up as well; see `MemoryBudget.when_full`.
- One owner may have at most `SHARE` of the budget: the network of an agent (see `shares.network_of`), or an upstream.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway_core.errors import overloaded
from gateway_core.limits.heap import trim
from gateway_core.supervised import poll

TIGHT: Final = 0.9
FULL: Final = 0.95
SHARE: Final = 0.25
OF_MACHINE: Final = 0.5
OF_OWN_LIMIT: Final = 0.85
"""The default budget: a share of the machine's memory, or of a limit that is the process's own."""
COPIES: Final = 3
"""Copies of a payload that exist at a time: as received, as members, and as sent."""
RETRY_AFTER: Final = 2.0
POLL: Final = 0.25
"""Seconds between two polls."""
GROWTH: Final = 64 * 1024 * 1024
"""Bytes by which the used memory has to exceed the needed memory before free memory is returned to the system."""
TRIM_INTERVAL: Final = 5.0
"""Seconds between two attempts to return free memory to the system."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_CGROUPS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class MemoryBudget:
    """The memory budget of one process."""

    def __init__(self, limit: int | None = None, used: Callable[[], int] | None = None) -> None:
        """`limit`: bytes; None: a share of what the machine, the control group or `ulimit -v` gives.

        `used`: returns the bytes that the process uses; by default as the system counts them.
        """
        self.limit = limit or default_limit()
        self._on_full: list[Callable[[], None]] = []
        self._used = used or _used
        self._reserved = 0
        self._fresh = 0
        """Bytes that were kept since the last poll, which `level` does not include yet."""
        self._owners: dict[str, int] = {}
        """Owner -> the bytes that it has of the budget, with all copies."""
        self._base = self._used()
        """Bytes that the process used when no large payload was reserved."""
        self.level = self._base / self.limit
        """The used share of the budget, at the last poll."""
        self.tight = self.level >= TIGHT
        """Whether no new work may begin; see `check`."""
        self._turns: dict[str, asyncio.Lock] = {}
        self._freed: asyncio.Future[None] | None = None
        self._trimmed = 0.0
        self._needed = self._base
        """Bytes that the process seems to need: after free memory was returned to the system, it used these."""

    def limit_to(self, limit: int | None) -> None:
        """Apply another limit from the next poll on; see the constructor."""
        self.limit = limit or default_limit()

    def when_full(self, give_up: Callable[[], None]) -> None:
        """Call `give_up` at each poll that finds the memory nearly full."""
        self._on_full.append(give_up)

    def poll(self) -> None:
        """Measure the used memory. If much of it may be free, or near the limit, return free memory to the system.

        Then, if memory is still nearly full, give up what is idle.
        """
        used, now = self._used(), time.monotonic()
        small_only = not self._reserved
        if small_only:
            self._needed = min(self._needed, used)
        much_may_be_free = small_only and used > self._needed + GROWTH
        if (much_may_be_free or used >= self.limit * TIGHT) and now - self._trimmed >= TRIM_INTERVAL:
            self._trimmed = now
            trim()
            used = self._used()
            if small_only:
                self._needed = used
        self._base = used if small_only else min(self._base, used)
        self._fresh = 0
        self.level = used / self.limit
        self.tight = self.level >= TIGHT
        self._tell_freed()
        if self.level >= FULL:
            for give_up in self._on_full:
                give_up()

    async def keep_polling(self) -> None:
        """Poll until the task is cancelled."""
        await poll("measuring the memory", POLL, self._poll_if_possible)

    def _poll_if_possible(self) -> None:
        with contextlib.suppress(OSError):  # while no file descriptor is free, the last measure counts
            self.poll()

    def check(self) -> None:
        """Raise `RpcError(OVERLOADED)` if no new work may begin."""
        if self.tight:
            raise overloaded(f"the gateway uses {self.level:.0%} of its memory (limits.memory)", RETRY_AFTER)

    def reserve(self, owner: str, size: int, *, within_share: bool = True) -> None:
        """Count `size` bytes of a payload that `owner` sends; the caller must `release` them.

        `within_share`: false for the one payload that has its `turn`. Raises `RpcError(OVERLOADED)`.
        """
        self._check_room(owner, size * COPIES, within_share=within_share)
        self._add(owner, size * COPIES)
        self._reserved += size

    def release(self, owner: str, size: int) -> None:
        """Forget bytes that `reserve` has counted."""
        self._reserved -= size
        self._add(owner, -size * COPIES)

    def keep(self, owner: str, size: int, *, force: bool = False) -> None:
        """Count `size` bytes that stay; the caller must `drop` them. `force`: even if there is no room.

        Raises `RpcError(OVERLOADED)`.
        """
        if not force:
            self._check_room(owner, size)
        self._add(owner, size)
        self._fresh += size

    def drop(self, owner: str, size: int) -> None:
        """Forget bytes that `keep` has counted."""
        self._add(owner, -size)
        self._fresh = max(self._fresh - size, 0)

    def _check_room(self, owner: str, size: int, *, within_share: bool = True) -> None:
        """Raise `RpcError(OVERLOADED)` if `owner` may not have `size` more bytes, with all copies."""
        if within_share and self._owners.get(owner, 0) + size > self.limit * SHARE:
            raise overloaded(f"{owner} has used its share of the gateway's memory (limits.memory)", RETRY_AFTER)
        more = self._fresh + size
        if max(self._base + self._reserved * COPIES, self.level * self.limit) + more > self.limit * TIGHT:
            raise overloaded("the memory of the gateway is in use (limits.memory)", RETRY_AFTER)

    def _add(self, owner: str, size: int) -> None:
        left = self._owners.get(owner, 0) + size
        if size < 0:
            self._tell_freed()
        if left:
            self._owners[owner] = left
        else:
            self._owners.pop(owner, None)

    def turn(self, owner: str) -> asyncio.Lock:
        """The lock of the one payload of an upstream that may exceed its share."""
        return self._turns.setdefault(owner, asyncio.Lock())

    def freed(self) -> asyncio.Future[None]:
        """Done when something was given back, and at the next poll."""
        if self._freed is None or self._freed.done():
            self._freed = asyncio.get_running_loop().create_future()
        return self._freed

    def _tell_freed(self) -> None:
        if self._freed is not None and not self._freed.done():
            self._freed.set_result(None)

    def held_by(self, owner: str) -> int:
        """The bytes that an owner has of the budget, with all copies."""
        return self._owners.get(owner, 0)


def default_limit() -> int:
    """The default budget in bytes."""
    found = [os.sysconf("SC_PHYS_PAGES") * _PAGE * OF_MACHINE]
    found += [own * OF_OWN_LIMIT for own in (_control_group(), _address_space()) if own is not None]
    return int(min(found))


def _control_group() -> int | None:
    """The limit of the process's control group in bytes; None if there is none."""
    for path in _CGROUPS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text.isdigit():
            return int(text)
    return None


def _address_space() -> int | None:
    """`RLIMIT_AS` in bytes; None if there is none."""
    import resource  # noqa: PLC0415 - not on every platform

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def _used() -> int:
    """The bytes that the process uses: resident ones, or its address space where `RLIMIT_AS` bounds that.

    Raises `OSError` while no file descriptor is free.
    """
    try:
        with open("/proc/self/statm", "rb") as file:
            size, resident = file.read().split()[:2]
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            raise
        return 0  # no procfs: only reservations count
    return (int(resident) if _address_space() is None else int(size)) * _PAGE
