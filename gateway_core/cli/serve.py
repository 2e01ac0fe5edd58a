"""`rad mcp proxy start` in the foreground: one gateway under an event loop, until a signal or the agent ends it.

The first SIGTERM or SIGINT drains (calls in flight get `drain_timeout`), a second one means now. A watchdog thread
ends the process when even that does not work, so that a plugin that blocks the event loop cannot keep it alive.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from loguru import logger

from gateway_core.cli import detach, port, render
from gateway_core.cli.control import Hold, acquire, locate
from gateway_core.cli.report import Failed, say
from gateway_core.cli.settings import require_enabled
from gateway_core.config import Config, load
from gateway_core.log import output
from gateway_core.upstream.early import EarlyChildren

if TYPE_CHECKING:
    from gateway_core.gateway import Gateway

COLLECT_EVERY: Final = 50_000
"""Objects that may be made, above those that were deleted, before the garbage collector looks at the young ones."""
KEPT_FREE: Final = 16 * 1024 * 1024
"""Bytes at the end of the heap that stay when they are free."""
MAPPED_FROM: Final = 8 * 1024 * 1024
"""Bytes from which a block of memory is not of the heap, and goes back to the kernel when it is free."""
_MALLOC_SETTINGS: Final = frozenset({"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"})
"""Variables of the environment that may set either: then they count (mallopt(3))."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
NOW_GRACE: Final = 5.0
"""Seconds for closing connections and children when nobody waits for calls any more."""
WATCHDOG_GRACE: Final = 10.0
"""Seconds past `drain_timeout` after which the process is ended from outside the event loop."""


class Signals:
    """What signals have asked for: first to stop, then to stop now."""

    def __init__(self, drain_timeout: float, last_act: Callable[[], None]) -> None:
        """`last_act`: run before the watchdog ends the process, in whatever state that is in."""
        self.stop = asyncio.Event()
        self.now = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._limit = drain_timeout + WATCHDOG_GRACE
        self._last_act = last_act
        self._count = 0
        # Handlers of the interpreter, not of the loop: they run even while a plugin blocks the loop.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: output.reopen())

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self._loop.call_soon_threadsafe(self.stop.set)
            self.watch(self._limit)
        elif self._count == 2:
            self._loop.call_soon_threadsafe(self.now.set)
            self.watch(NOW_GRACE + WATCHDOG_GRACE)

    def watch(self, seconds: float) -> None:
        """End the process after `seconds`, whatever it is doing."""
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        logger.error("the gateway did not stop in time and is ended")
        with suppress(OSError):
            self._last_act()
        output.flush()
        os._exit(1)


def start(config: Path | None, *, stdio: bool, ready_fd: int | None) -> None:
    """Serve until a signal, or (`stdio`) until the agent closes stdin.

    `ready_fd`: a pipe to the process that detached this one; see `detach`.
    """
    if ready_fd is None:
        _start(config, stdio=stdio, starter=None)
        return
    with detach.Starter(ready_fd) as starter:
        _start(config, stdio=stdio, starter=starter)


def _start(config: Path | None, *, stdio: bool, starter: detach.Starter | None) -> None:
    path = locate(config)
    settings = load(path)
    require_enabled(settings)
    proxy = settings.proxy
    if stdio:
        output.setup(proxy.log, to_terminal=False)
        _run(_serve_stdio(settings))
        return
    hold = acquire(path, host=proxy.host, port=proxy.port, drain_timeout=proxy.drain_timeout)
    try:
        _check_port(proxy.host, proxy.port)
        log = proxy.log
        if starter is not None and log.file is None:
            log = log.model_copy(update={"file": str(detach.log_file(path))})
        output.setup(log, to_terminal=starter is None and sys.stderr.isatty())
        _run(_serve(settings, hold, starter))
    finally:
        hold.release()


def _spare_the_collector() -> None:
    """Keep the garbage collector from looking at what stays for the life of the process, and from looking often.

    A call leaves no cycles behind, so there is little to collect; modules, schemas and routes are 200,000 objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 50)


def _keep_freed_memory() -> None:
    """Have the C library keep what was freed for the next large answer, within bounds.

    Else glibc gives each megabyte back to the kernel and asks for it again, a page at a time: two thirds of what a
    result of 1 MB costs (mallopt(3)). What the environment says about it counts, and other C libraries do as they do.
    """
    import ctypes  # noqa: PLC0415 - 5 ms, when the gateway is already there for its agents

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and _MALLOC_SETTINGS.isdisjoint(os.environ):
        mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM)
        mallopt(_M_TRIM_THRESHOLD, KEPT_FREE)


def _check_port(host: str, number: int) -> None:
    try:
        port.check(host, number)
    except OSError as error:
        raise Failed(port.in_use_message(error, host, number)) from error


@asynccontextmanager
async def _gateway(config: Config, admin_token: str, signals: Signals) -> AsyncIterator[Gateway]:
    """A gateway that is not started yet; stopped at the end. Its children start while it is being loaded."""
    early = EarlyChildren(config.proxy.upstreams)
    gateway: Gateway | None = None
    try:
        await early.start()
        from gateway_core.gateway import Gateway  # noqa: PLC0415 - takes half a second, which a refusal must not

        gateway = Gateway(config, admin_token=admin_token, early=early)
        yield gateway
    finally:
        # After a drain there is nothing left to stop; after a failure there may be children.
        signals.watch(NOW_GRACE + WATCHDOG_GRACE)
        if gateway is not None:
            await gateway.stop()
        await early.stop()


def _run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop


async def _serve(config: Config, hold: Hold, starter: detach.Starter | None) -> None:
    proxy = config.proxy
    signals = Signals(proxy.drain_timeout, hold.release)
    async with _gateway(config, hold.instance.token, signals) as gateway:
        try:
            if not await _unless_stopped(gateway.start(), signals):
                return
        except OSError as error:
            raise Failed(port.in_use_message(error, proxy.host, proxy.port)) from error
        hold.listening(urlsplit(gateway.address).port or proxy.port)
        _spare_the_collector()
        _keep_freed_memory()
        _announce(gateway, starter)
        await signals.stop.wait()
        await _unless_now(gateway.drain(), signals)


async def _serve_stdio(config: Config) -> None:
    signals = Signals(config.proxy.drain_timeout, lambda: None)
    async with _gateway(config, "", signals) as gateway:
        if await _unless_stopped(gateway.start(listen=False), signals):
            _spare_the_collector()
            _keep_freed_memory()
            serving = asyncio.ensure_future(gateway.serve_stdio())
            stopped = asyncio.ensure_future(signals.stop.wait())
            # Whether the agent closes its end or a signal comes: what was asked for before is still answered.
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            await _unless_now(gateway.drain(), signals)
            serving.cancel()
            await asyncio.wait({serving})
            if not serving.cancelled():
                serving.result()


async def _unless_stopped(work: Coroutine[Any, Any, None], signals: Signals) -> bool:
    """Do `work`; cancel it and return False when a signal comes first."""
    return await _race(work, signals.stop)


async def _unless_now(work: Coroutine[Any, Any, None], signals: Signals) -> None:
    if not await _race(work, signals.now):
        logger.warning("stopping now: calls in flight are dropped")


async def _race(work: Coroutine[Any, Any, None], event: asyncio.Event) -> bool:
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=NOW_GRACE)
    if task.cancelled() or not task.done():
        return False
    task.result()
    return True


def _announce(gateway: Gateway, starter: detach.Starter | None) -> None:
    if starter is not None:
        starter.ready(gateway.address)
    if starter is None and sys.stderr.isatty():
        say(render.start_summary(gateway.status()))
    else:
        logger.info("listening", address=gateway.address, pid=os.getpid())
