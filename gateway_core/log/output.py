"""Sets up the log's targets and writes access log lines.

The log never uses stdout, which carries the protocol in `--stdio` mode. It includes records of the standard library's
logging from WARNING up.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from loguru import logger

from gateway_core.concealing import HeldSecrets, without_pages
from gateway_core.log.escaping import escape, wants_colour
from gateway_core.log.lines import NO_MEMBERS, Format, Line, Renderer
from gateway_core.log.recent import Recent
from gateway_core.log.sink import FLUSH_TIMEOUT, Destination, FileDestination, LineSink, StderrDestination

if TYPE_CHECKING:
    from loguru import Record

_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
MAX_NOTE: Final = 9000
"""Maximum characters of a note's message; the rest is cut off."""
_handlers: list[int] = []
"""The ids under which loguru knows the active sinks."""
_active: list[LineSink] = []
_noting: list[tuple[LineSink, Renderer]] = []
"""The active sinks with their renderers; empty if the log level suppresses notes."""
recent: Final = Recent()
"""The last lines of the first target, and of those that it has replaced."""


class LogSettings(Protocol):
    """The settings of `[mcp.proxy.log]`."""

    @property
    def level(self) -> str: ...
    @property
    def format(self) -> Format: ...
    @property
    def file(self) -> str | None:
        """None: stderr."""

    @property
    def max_bytes(self) -> int: ...
    @property
    def kept_files(self) -> int: ...


class Targets:
    """Targets of the log that are ready to be used."""

    def __init__(self, log: LogSettings, *, to_terminal: bool, held: HeldSecrets | None = None) -> None:
        """Arguments and errors as `setup`."""
        destinations: list[tuple[Destination, Format, Renderer]] = []
        if log.file is not None:
            destination = FileDestination(Path(log.file), log.max_bytes, log.kept_files)
            destinations.append((destination, log.format, Renderer(log.format, colour=False)))
        if log.file is None or to_terminal:
            form: Format = "text" if log.file is not None else log.format
            destinations.append((StderrDestination(), form, Renderer(form, colour=wants_colour(sys.stderr))))
        held = held or HeldSecrets()
        self._level = log.level
        self._sinks = [
            (LineSink(to, renderer, clean=partial(_cleaned, held, form), recent=None if at else recent), renderer)
            for at, (to, form, renderer) in enumerate(destinations)
        ]

    def use(self) -> Callable[[], None]:
        """Send all log records here from now on.

        Returns what ends the earlier targets, once their queued lines are written; it may block for a while.
        """
        earlier = list(_handlers)
        _active[:] = [sink for sink, _ in self._sinks]
        _noting[:] = self._sinks if self._level in {"DEBUG", "INFO"} else []
        _handlers[:] = [
            logger.add(sink, level=self._level, format=_no_format, backtrace=False, diagnose=False, catch=True)
            for sink in _active
        ]
        return partial(_end, earlier)

    def discard(self) -> None:
        """Close them unused."""
        for sink, _ in self._sinks:
            sink.stop()


def _end(handlers: Sequence[int]) -> None:
    for handler in handlers:
        with contextlib.suppress(ValueError):  # removed by other code
            logger.remove(handler)


def setup(log: LogSettings, *, to_terminal: bool, held: HeldSecrets | None = None) -> None:
    """Send all log records to the target in `log`. Replaces an earlier set-up.

    `to_terminal`: a person watches stderr, so it gets text lines too if the log goes to a file. `held`: the secrets to
    hide in every line.
    Raises `OSError` if the file cannot be opened; a file that fails later loses lines, and stderr says so.
    """
    targets = Targets(log, to_terminal=to_terminal, held=held)
    logger.remove()
    _handlers.clear()
    targets.use()
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)


def end() -> None:
    """Write what is queued, and end all targets of `setup`."""
    flush()
    logger.remove()
    _active.clear()
    _noting.clear()
    _handlers.clear()


def _cleaned(held: HeldSecrets, form: Format, line: bytes) -> bytes:
    return without_pages(held.clean(line) if form == "json" else held.clean_line(line))


def note(
    message: str | Callable[[], str], fields: Mapping[str, Any], members: Mapping[str, str | int] = NO_MEMBERS
) -> None:
    """Write a line of the access log, at level INFO: one or more for every call.

    It bypasses loguru, because creating a loguru record is expensive. The keys of `fields` are plain words; `members`
    are additional fields in JSON only. A function as `message` is called only if the log level admits the line. The
    message is escaped. Before `setup`, the line is an ordinary loguru record.
    """
    if not _active:
        logger.bind(**fields).opt(lazy=True).info("{}", partial(_in_one_line, message))
    elif _noting:
        if not isinstance(message, str):
            message = message()
        if len(message) > MAX_NOTE:
            message = f"{message[:MAX_NOTE]}…"
        now = time.time()
        for sink, renderer in _noting:
            sink.put(renderer.render(now, "INFO", message, fields, members))


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Drop the lines of the access log meanwhile, for calls that are only rehearsed. For use before `setup`."""
    logger.disable(__name__)
    try:
        yield
    finally:
        logger.enable(__name__)


def _in_one_line(message: str | Callable[[], str]) -> str:
    return escape(message if isinstance(message, str) else message())


def note_line(line: Line, values: tuple[Any, ...]) -> None:
    """Write a prepared line at level INFO; `values` are those of the fields that differ."""
    if _noting:
        now = time.time()
        for sink, renderer in _noting:
            sink.put(renderer.line(now, line, values))
    elif not _active:
        note(line.message, line.filled(values))


def flush(timeout: float = FLUSH_TIMEOUT) -> None:
    """Wait until all queued lines are written, at most `timeout` seconds for each sink."""
    for sink in _active:
        sink.flush(timeout)


def dropped() -> int:
    """Number of lines that were lost, of all targets."""
    return sum(sink.dropped for sink in _active)


def warnings() -> list[str]:
    """What is wrong with the log at present: targets that cannot be written, and so lose lines."""
    return [
        f"the log cannot be written to {sink.destination.name}; lines were dropped: {sink.dropped}"
        for sink in _active
        if sink.failing
    ]


def reopen() -> None:
    """Check at the next write whether the log file was replaced. Also done regularly without this call."""
    for sink in _active:
        sink.destination.reopen()


def _no_format(_record: Record) -> str:
    return ""  # the sink renders lines: loguru's own format would put exceptions on separate lines


class _Intercept(logging.Handler):
    """Forwards records of the standard library's logging to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        level = record.levelname if record.levelname in _LEVELS else "WARNING"
        logger.bind(logger=record.name).opt(exception=error).log(level, message)


atexit.register(flush)
