"""The thread that writes entries: a bounded queue between the event loop and the disk.

Gateways of one process that name the same file share a writer, as while a new configuration takes over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypedDict

from loguru import logger

from gateway_audit_log.chaining import Keys
from gateway_audit_log.journal import Head, Journal, JournalError
from gateway_audit_log.settings import Settings
from gateway_core import AuthenticationEnded, CallEnded

MAX_EVENTS: Final = 20_000
MAX_BYTES: Final = 64 * 1024 * 1024
"""Bounds of the queue: events, and bytes of their payloads."""
GATHER: Final = 0.05
"""Seconds that events are collected before they are written."""
RETRY: Final = 1.0
"""Seconds after which a failed write is tried again."""
CLOSE_TIMEOUT: Final = 8.0
"""Seconds that the end of the plugin waits for the queue to be written."""

Body = dict[str, Any]
Recorded: TypeAlias = CallEnded | AuthenticationEnded
"""The events that become entries."""
Make = Callable[[Recorded], Body]


class Source(NamedTuple):
    """One configuration whose gateway writes to the file. The newest one that has queued an event sets the limits.

    A configuration that is refused queues none, and so changes nothing.
    """

    number: int
    """Newer configurations have higher ones."""
    settings: Settings
    make: Make
    """Turns an event into an entry."""


class _Limits(TypedDict):
    max_bytes: int
    max_age: float | None
    kept: int | None


class _Queued(NamedTuple):
    event: Recorded
    source: Source
    done: asyncio.Future[None] | None
    """Completed when the entry is on the disk."""


class Writer:
    """Writes entries to one file. `put` is called by the event loop; all else happens in a thread."""

    def __init__(self, journal: Journal, keys: Keys, source: Source) -> None:
        self.keys: Final = keys
        self.problem = ""
        """Why entries cannot be written at present; empty if they can."""
        self.lost = 0
        """Events that found no room in the queue, since the start."""
        self._journal = journal
        self._source = source
        self._queue: deque[_Queued] = deque()
        self._bytes = self._untold = 0
        self._state = threading.Condition()
        self._asleep = True
        self._closing = self._forced = False
        self._synced = time.monotonic()
        self._dirty = False
        self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)
        self._thread.start()

    @property
    def head(self) -> Head:
        """The last entry that was written."""
        return self._journal.head

    @property
    def waiting(self) -> int:
        """Number of events in the queue."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether the next event would be lost."""
        return len(self._queue) >= MAX_EVENTS or self._bytes > MAX_BYTES

    def put(self, event: Recorded, source: Source, size: int, done: asyncio.Future[None] | None = None) -> None:
        """Queue an event, or count it as lost. `size`: the bytes of its payloads."""
        queue = self._queue
        if self.is_full or self._closing:
            self._lose(done)
            return
        queue.append(_Queued(event, source, done))
        self._bytes += size  # may be inexact without the lock; an empty queue resets it
        if self._asleep or done is not None:
            with self._state:
                self._asleep = False
                self._forced = self._forced or done is not None
                self._state.notify_all()

    def _lose(self, done: asyncio.Future[None] | None) -> None:
        self.lost += 1
        self._untold += 1
        if done is not None:
            done.set_result(None)

    @property
    def ended(self) -> bool:
        """Whether the thread has ended, and the file can be opened again."""
        return not self._thread.is_alive()

    def close(self) -> bool:
        """Write what is queued, then end; False if that took longer than `CLOSE_TIMEOUT`."""
        with self._state:
            self._closing = True
            self._state.notify_all()
        self._thread.join(CLOSE_TIMEOUT)
        return self.ended

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._append([_Plain({"type": "start", "chain": self.keys.method, "time": now()})])
        while True:
            with self._state:
                self._asleep = True  # before checking the queue: a later `put` then wakes the thread
                timeout = RETRY if self.problem else self._source.settings.sync_interval if self._dirty else None
                self._state.wait_for(lambda: (self._queue and not self.problem) or self._closing, timeout)
                self._asleep = False
                if not self._forced and not self._closing and not self.problem:
                    self._state.wait_for(lambda: self._forced or self._closing, GATHER)
                self._forced = False
                closing = self._closing
            self._work()
            if closing and (self.problem or not self._queue):
                self._end()
                return

    def _work(self) -> None:
        """Write what is queued, as far as that works."""
        while self._queue:
            batch = [self._queue[number] for number in range(min(len(self._queue), 500))]
            self._adopt(max((one.source for one in batch), key=_number))
            done = self._append(batch)
            for _ in range(done):
                self._queue.popleft()
            if not self._queue:
                self._bytes = 0
            self._sync(forced=any(one.done is not None for one in batch))
            self._release(batch if self.problem else batch[:done])
            if self.problem:
                return
        if self._untold and self._append([_Plain({"type": "lost", "entries": self._untold, "time": now()})]):
            self._untold = 0
        self._sync()

    def _adopt(self, source: Source) -> None:
        """Use the settings of a newer configuration."""
        if source.number > self._source.number:
            self._source = source
            self._journal.limit(**_limits(source.settings))

    def _append(self, batch: Sequence[_Queued | _Plain]) -> int:
        try:
            done = self._journal.append([_body(one) for one in batch])
        except (OSError, JournalError) as error:
            self._fails(error.strerror or str(error) if isinstance(error, OSError) else str(error))
            return 0
        except Exception as error:  # noqa: BLE001 - the thread must go on, and `on_failure` decides about calls
            self._fails(f"{type(error).__name__} in the plugin")
            return 0
        self._dirty = True
        if done == len(batch) and self.problem:
            self.problem = ""
            logger.info("audit_log: entries are written again to {}", self._journal.path)
        return done

    def _fails(self, reason: str) -> None:
        if not self.problem:
            logger.error("audit_log: entries cannot be written to {}: {}", self._journal.path, reason)
        self.problem = reason or "unknown"

    def _sync(self, *, forced: bool = False) -> None:
        settings, moment = self._source.settings, time.monotonic()
        due = settings.sync == "interval" and moment - self._synced >= settings.sync_interval
        if not self._dirty or not (forced or due):
            self._dirty = self._dirty and settings.sync == "interval"
            return
        try:
            self._journal.sync()
        except OSError as error:
            self._fails(error.strerror or str(error))
        self._synced, self._dirty = moment, False

    @staticmethod
    def _release(batch: Sequence[_Queued]) -> None:
        """Let the agents go on that wait for these entries."""
        waiting = [one.done for one in batch if one.done is not None]
        if waiting:
            try:
                waiting[0].get_loop().call_soon_threadsafe(_complete, waiting)
            except RuntimeError:
                return  # the loop is closed

    def _end(self) -> None:
        if self._queue:
            logger.error("audit_log: {} entries were lost: {}", len(self._queue), self.problem)
            self._release(list(self._queue))
        self._append([_Plain({"type": "stop", "lost": self._untold + len(self._queue), "time": now()})])
        self._sync(forced=True)
        head = self._journal.head
        self._journal.close()
        logger.info("audit_log: entry {} of {} has the hash {}", head.seq, self._journal.path, head.hash)


class _Plain(NamedTuple):
    """An entry of the plugin itself."""

    body: Body


def _body(one: _Queued | _Plain) -> Body:
    if isinstance(one, _Plain):
        return one.body
    try:
        return one.source.make(one.event)
    except Exception as error:  # noqa: BLE001 - one event must not keep the others from being written
        logger.error("audit_log: an event cannot be recorded: {}", type(error).__name__)
        return {"type": "unreadable", "time": now(), "reason": type(error).__name__}


def _number(source: Source) -> int:
    return source.number


def _complete(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def now() -> str:
    """The time of an entry."""
    return text_of(time.time())


def text_of(seconds: float) -> str:
    """A time as entries have it: UTC with milliseconds."""
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1000):03d}Z"


# -- sharing --------------------------------------------------------------------------------------------------------


def _limits(settings: Settings) -> _Limits:
    return {"max_bytes": settings.max_bytes, "max_age": settings.max_age, "kept": settings.kept_files}


class _Shared:
    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self._users = 0

    def join(self) -> Writer:
        """Count one more user."""
        self._users += 1
        return self.writer

    def leave(self) -> bool:
        """Count one user less; whether that was the last one."""
        self._users -= 1
        return not self._users


_shared: dict[str, _Shared] = {}
_ending: dict[str, Writer] = {}
"""Writers that still write what was queued. Each keeps the lock of its file until then."""
_sharing: Final = threading.Lock()


def acquire(source: Source, keys: Keys) -> Writer:
    """The writer of a file, shared in this process. Call `release` once for each. Raises `JournalError`."""
    settings = source.settings
    path = Path(settings.file)
    key = str(path.resolve())
    with _sharing:
        ending = _ending.get(key)
        if ending is not None and ending.ended:
            del _ending[key]
    if ending is not None and not ending.close():
        raise JournalError(f"{path}: an earlier configuration of this gateway still writes to it; try again later")
    with _sharing:
        found = _shared.get(key)
        if found is None:
            journal = Journal(path, keys, **_limits(settings))
            found = _shared[key] = _Shared(Writer(journal, keys, source))
        elif found.writer.keys.chain != keys.chain:
            raise JournalError(f"{path}: is in use with another key; a new key needs a new file")
        return found.join()


def release(settings: Settings) -> bool:
    """Give up the writer of a file; the last one closes it. False if entries were still to be written."""
    key = str(Path(settings.file).resolve())
    with _sharing:
        found = _shared[key]
        if not found.leave():
            return True
        del _shared[key]
        _ending[key] = found.writer
    ended = found.writer.close()
    with _sharing:
        if ended and _ending.get(key) is found.writer:
            del _ending[key]
    return ended
