"""Runs one gateway in an event loop until a signal or the agent ends it.

The first SIGTERM or SIGINT drains (calls in flight get `drain_timeout`), a second one stops without draining. A
watchdog thread ends the process if it does not stop in time, for example because a plugin blocks the event loop.
SIGHUP reloads the configuration file, unless it says that the terminal was closed. SIGUSR1 reopens the log file.
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
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from gateway_core.cli.instance import Hold
from gateway_core.cli.rendering import pages
from gateway_core.cli.report import say
from gateway_core.cli.serving import port
from gateway_core.cli.serving.detach import Starter, log_file
from gateway_core.cli.serving.file_source import FileSource, Log, changes_of
from gateway_core.cli.serving.launch import Launch
from gateway_core.cli.settings import definitions_file, lists_folder, logins_file, names_file, sessions_file
from gateway_core.cli.state.folder import state_folder
from gateway_core.concealing import HeldSecrets
from gateway_core.config import Config, exposure
from gateway_core.errors import GatewayError, ReloadRefused
from gateway_core.generations.handover import Handover
from gateway_core.internal_errors import where
from gateway_core.limits.heap import keep_freed_memory
from gateway_core.log import output
from gateway_core.upstream.concealing import held_secrets
from gateway_core.upstream.process.early import EarlyChildren

if TYPE_CHECKING:
    from gateway_core.gateway import Gateway

NOW_GRACE: Final = 5.0
"""Seconds to close connections and children without waiting for calls."""
TASKS_GRACE: Final = 1.0
"""Seconds that the tasks which reload the file have to end after the drain."""
WATCHDOG_GRACE: Final = 10.0
"""Seconds past `drain_timeout` (or `NOW_GRACE`) after which the watchdog thread ends the process."""


class Signals:
    """What signals request: the first to stop sets `stop`, the second sets `now`; one to reload sets `reload`."""

    def __init__(self, drain_timeout: float, last_act: Callable[[], None]) -> None:
        """`last_act`: called before the watchdog ends the process, which may be in any state."""
        self.stop = asyncio.Event()
        self.now = asyncio.Event()
        self.reload = asyncio.Event()
        self.restart = asyncio.Event()
        """Set by the control plane, not by a signal."""
        self._loop = asyncio.get_running_loop()
        self._limit = drain_timeout + WATCHDOG_GRACE
        self._last_act = last_act
        self._count = 0
        # Handlers of the interpreter, not of the loop: they run even while a plugin blocks the loop.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._has_terminal = _has_terminal()
        signal.signal(signal.SIGHUP, self._on_hangup)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: output.reopen())

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self._loop.call_soon_threadsafe(self.stop.set)
            self.watch(self._limit)
        elif self._count == 2:
            self._loop.call_soon_threadsafe(self.now.set)
            self.watch(NOW_GRACE + WATCHDOG_GRACE)

    def hand_on(self) -> bool:
        """Let signals to stop end the process at once from now on, and others do nothing. Returns whether none came.

        For a restart: the old program has nothing left to end, and the new one handles signals only after its start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        return not self._count

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        if self._has_terminal and not _has_terminal():
            self._on_signal(number, frame)
        else:
            self._loop.call_soon_threadsafe(self.reload.set)

    def watch_drain(self) -> None:
        """End the process if a drain that begins now takes too long."""
        self.watch(self._limit)

    def limit(self, drain_timeout: float) -> None:
        """Apply another `drain_timeout` to a stop that begins later."""
        self._limit = drain_timeout + WATCHDOG_GRACE

    def watch(self, seconds: float) -> None:
        """End the process after `seconds`, from a thread."""
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        logger.error("the gateway did not stop in time; ending its process")
        with suppress(OSError):
            self._last_act()
        output.flush()
        os._exit(1)


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def serve(
    launch: Launch,
    config: Config,
    early: EarlyChildren,
    hold: Hold,
    starter: Starter | None,
    *,
    before: Handover | None = None,
) -> Handover | None:
    """Serve agents on the configured port until a signal or a restart. Returns what the next program gets, if any.

    `starter`: pipe to report on once the gateway listens. `before`: what the program before a restart left.
    """
    proxy = config.proxy
    tokens = hold.instance.token, hold.instance.read_token
    held = held_secrets(proxy, *tokens)
    fallback = str(log_file(launch.path, launch.folder)) if launch.detached else None
    log = Log(held, to_terminal=not launch.detached and sys.stderr.isatty(), fallback=fallback)
    log.set_up(config)
    signals = Signals(proxy.drain_timeout, hold.release)

    def applied(now: Config) -> None:
        signals.limit(now.proxy.drain_timeout)
        hold.reconfigured(now.proxy.drain_timeout, "" if now.proxy.tls is None else now.proxy.tls.cert)

    source = FileSource(launch, config, log, applied, signals.restart.set)
    async with _gateway(source, config, early, signals, held=held, tokens=tokens, before=before) as gateway:
        for warning in exposure(proxy, authenticates=gateway.authenticates):
            logger.warning("{}", warning)
        control = proxy.control
        with port.explained(control.host, control.port, port.CONTROL_PORT):
            await gateway.start_control(control.host, control.port)
        hold.control_listens(gateway.control.host, gateway.control.port)
        with port.explained(proxy.host, proxy.port):
            if not await _unless_stopped(gateway.start(), signals):
                return None
        async with _reloading(gateway, source, signals, watch=launch.watch):
            serving = _report_and_serve(gateway, starter, log.file(config))
            await _race(serving, signals.stop, signals.restart)
            if signals.stop.is_set():
                await _unless_now(gateway.drain(), signals)
                return None
            signals.watch_drain()
            stopping = asyncio.ensure_future(_stop_instead(gateway, signals))
            await _unless_now(gateway.drain(restart=True), signals)
            stopping.cancel()
        return gateway.handover() if signals.hand_on() else None


async def _stop_instead(gateway: Gateway, signals: Signals) -> None:
    """Turn a restart into a stop if a signal arrives."""
    await signals.stop.wait()
    gateway.stop_instead()


async def _report_and_serve(gateway: Gateway, starter: Starter | None, log: str) -> None:
    """Report that the gateway has started once operators are served, too. Agents are served already."""
    await gateway.control.load()
    gc.freeze()  # once more, for what was loaded now
    _announce(gateway, starter, log)
    await asyncio.Event().wait()


async def serve_stdio(launch: Launch, config: Config, early: EarlyChildren) -> None:
    """Serve one agent on stdin and stdout until it closes stdin or a signal arrives."""
    held = held_secrets(config.proxy)
    log = Log(held, to_terminal=False, fallback=None)
    log.set_up(config)
    signals = Signals(config.proxy.drain_timeout, lambda: None)
    source = FileSource(launch, config, log, lambda now: signals.limit(now.proxy.drain_timeout))
    async with _gateway(source, config, early, signals, held=held) as gateway:
        try:
            await gateway.start_control(config.proxy.control.host, 0)
            logger.info("control plane listening", address=gateway.control.address, pid=os.getpid())
        except OSError as error:
            logger.warning("no control plane: cannot listen on {}: {}", config.proxy.control.host, error.strerror)
        if await _unless_stopped(gateway.start(listen=False), signals):
            serving = asyncio.ensure_future(gateway.serve_stdio(launch.profile))
            stopped = asyncio.ensure_future(signals.stop.wait())
            # In both cases, requests that were already received are still answered.
            async with _reloading(gateway, source, signals, watch=launch.watch):
                await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
                await _unless_now(gateway.drain(), signals)
            serving.cancel()
            await asyncio.wait({serving})
            if not serving.cancelled():
                serving.result()


@asynccontextmanager
async def _reloading(gateway: Gateway, source: FileSource, signals: Signals, *, watch: bool) -> AsyncIterator[None]:
    """Reload the file on SIGHUP, and if it is watched also when it changes. The gateway logs how that ended.

    The body drains the gateway before it ends: a drain refuses calls, and then undoes a reload in progress.
    """

    async def on_signals() -> None:
        while True:
            await signals.reload.wait()
            signals.reload.clear()
            try:
                await gateway.reload_after_others()
            except ReloadRefused:
                return  # the gateway is stopping
            except GatewayError:
                pass  # the gateway has logged it
            except Exception as error:  # noqa: BLE001 - after a bug, the next signal reloads again
                logger.error("{} while the configuration was reloaded\n{}", type(error).__name__, where(error))

    async def on_changes() -> None:
        try:
            async for _ in changes_of(source):
                signals.reload.set()
        except Exception as error:  # noqa: BLE001 - such as a folder that is gone, or too many watches in the system
            logger.error("{} is not watched any more, SIGHUP still reloads it: {}", source.path, error)

    tasks = [asyncio.ensure_future(on_signals())]
    if watch:
        tasks.append(asyncio.ensure_future(on_changes()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=TASKS_GRACE)  # a plugin may suppress the cancellation of a reload


@asynccontextmanager
async def _gateway(
    source: FileSource,
    config: Config,
    early: EarlyChildren,
    signals: Signals,
    *,
    held: HeldSecrets,
    tokens: tuple[str, str] = ("", ""),
    before: Handover | None = None,
) -> AsyncIterator[Gateway]:
    """Yield a gateway that is not started yet, and stop it on exit. `tokens`: of the control plane, change and read."""
    gateway: Gateway | None = None
    try:
        from gateway_core.catalog.memory import Memory  # noqa: PLC0415
        from gateway_core.gateway import Gateway  # noqa: PLC0415 - loaded after the signal handlers are set

        memory = Memory(config.proxy, names_file(config), disabled=[one.name for one in config.disabled])
        logins = lists = sessions = definitions = None
        if config.path is not None:
            folder = state_folder(config.path)
            logins, lists = logins_file(config.path, folder), lists_folder(config.path, folder)
            sessions, definitions = sessions_file(config.path, folder), definitions_file(config.path, folder)
        gateway = Gateway(
            config,
            admin_token=tokens[0],
            read_token=tokens[1],
            early=early,
            memory=memory,
            held=held,
            logins=logins,
            lists=lists,
            sessions=sessions,
            definitions=definitions,
            source=source,
            before=before,
        )
        gc.freeze()  # the garbage collector skips loaded objects, which stay until the process ends
        keep_freed_memory()
        yield gateway
    finally:
        # After a drain nothing is left to stop; after a failure, children may still run.
        signals.watch(NOW_GRACE + WATCHDOG_GRACE)
        if gateway is not None:
            await gateway.stop()


async def _unless_stopped(work: Coroutine[Any, Any, None], signals: Signals) -> bool:
    """Run `work`; cancel it and return False if a signal arrives first."""
    return await _race(work, signals.stop)


async def _unless_now(work: Coroutine[Any, Any, None], signals: Signals) -> None:
    if not await _race(work, signals.now):
        logger.warning("stopping now: calls in flight are dropped")


async def _race(work: Coroutine[Any, Any, None], *events: asyncio.Event) -> bool:
    task = asyncio.ensure_future(work)
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait({task, *waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=NOW_GRACE)
    if task.cancelled() or not task.done():
        return False
    task.result()
    return True


def _announce(gateway: Gateway, starter: Starter | None, log: str) -> None:
    if starter is not None:
        starter.ready(
            pages.endpoint(gateway.status()),
            gateway.control.address,
            log,
            exposure(gateway.config.proxy, authenticates=gateway.authenticates),
        )
    if starter is None and sys.stderr.isatty():
        say(pages.start_summary(gateway.status()))
    else:
        logger.info("listening", address=gateway.address, control=gateway.control.address, pid=os.getpid())
