"""Commands in messages: they repeat the options by which this command found its configuration and state folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

_REPEATED: Final = {"config": "--config", "_state": "--state-dir"}
"""Name of the parameter -> its option."""
_given: ContextVar[tuple[str, ...]] = ContextVar("_given", default=())


@contextmanager
def repeating(params: Mapping[str, Any]) -> Iterator[None]:
    """Within this context, commands repeat these options of the parameters of the command that runs."""
    given = [(option, params.get(name)) for name, option in _REPEATED.items()]
    token = _given.set(tuple(part for option, value in given if value is not None for part in (option, str(value))))
    try:
        yield
    finally:
        _given.reset(token)


def arguments() -> tuple[str, ...]:
    """Those options as arguments of a command."""
    return _given.get()


def command(rest: str) -> str:
    """`rad mcp proxy REST` with those options, ready to paste: `stop` becomes `rad mcp proxy stop --config FILE`."""
    name, space, others = rest.partition(" ")
    return f"{shlex.join(['rad', 'mcp', 'proxy', name, *arguments()])}{space}{others}"
