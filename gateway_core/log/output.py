"""Set-up of the log: where records go.

Nothing ever goes to stdout, which belongs to the protocol in `--stdio` mode. Records of the standard library's
logging come along from WARNING.
"""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from loguru import logger

from gateway_core.log.escaping import escape, wants_colour
from gateway_core.log.lines import NO_MEMBERS, Format, Line, Renderer
from gateway_core.log.sink import FLUSH_TIMEOUT, FileTarget, LineSink, StderrTarget, Target

if TYPE_CHECKING:
    from loguru import Record

_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
MAX_NOTE: Final = 9000
"""Characters of a note's message that are kept."""
_active: list[LineSink] = []
_noting: list[tuple[LineSink, Renderer]] = []
"""Those of them whose level admits notes, with what renders their lines."""


class LogSettings(Protocol):
    """What `[mcp.proxy.log]` says."""

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


def setup(log: LogSettings, *, to_terminal: bool) -> None:
    """Send all log records where `log` says; what was set up before is ended first.

    `to_terminal`: a person watches stderr, so it gets text lines too when the log goes to a file.
    Raises `OSError` when the file cannot be opened now; a file that breaks later only loses lines.
    """
    targets: list[tuple[Target, Renderer]] = []
    if log.file is not None:
        target = FileTarget(Path(log.file), log.max_bytes, log.kept_files)
        targets.append((target, Renderer(log.format, colour=False)))
    if log.file is None or to_terminal:
        form: Format = "text" if log.file is not None else log.format
        targets.append((StderrTarget(), Renderer(form, colour=wants_colour(sys.stderr))))
    sinks = [(LineSink(target, renderer), renderer) for target, renderer in targets]
    logger.remove()
    _active[:] = [sink for sink, _ in sinks]
    _noting[:] = sinks if log.level in {"DEBUG", "INFO"} else []
    for sink in _active:
        logger.add(sink, level=log.level, format=_no_format, backtrace=False, diagnose=False, catch=True)
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)


def note(message: str | Callable[[], str], fields: Mapping[str, Any], members: Mapping[str, str] = NO_MEMBERS) -> None:
    """Write a line of the access log, at level INFO: one or more for every call.

    It goes past loguru, whose record takes half as long as all the rest of a call. The keys of `fields` are plain
    words; `members` are further ones, in JSON only. A `message` that is a function is made only where the log's level
    lets the line through; whatever is in it stays on its line and can do nothing to a terminal. Where no log of the
    gateway's own is set up, it is one of loguru's records like all others.
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


def _in_one_line(message: str | Callable[[], str]) -> str:
    return escape(message if isinstance(message, str) else message())


def note_line(line: Line, values: tuple[Any, ...]) -> None:
    """`note` for a line that has much in common with others: `values` are those of the fields that differ."""
    if _noting:
        now = time.time()
        for sink, renderer in _noting:
            sink.put(renderer.line(now, line, values))
    elif not _active:
        note(line.message, line.filled(values))


def flush(timeout: float = FLUSH_TIMEOUT) -> None:
    """Wait until what was logged has been written, at most `timeout` seconds."""
    for sink in _active:
        sink.flush(timeout)


def reopen() -> None:
    """Open the log file again, for a rotation that tells by a signal; a changed file is noticed anyway."""
    for sink in _active:
        sink.target.reopen()


def _no_format(_record: Record) -> str:
    return ""  # lines are rendered by the sink: loguru's own format would put exceptions on lines of their own


class _Intercept(logging.Handler):
    """Records of the libraries that use the standard library's logging, as records of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        level = record.levelname if record.levelname in _LEVELS else "WARNING"
        logger.bind(logger=record.name).opt(exception=error).log(level, message)


atexit.register(flush)
