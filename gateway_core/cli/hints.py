"""Commands in messages: they repeat the options by which this command found its configuration and state folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_REPEATED: Final = {"config": "--config", "_state": "--state-dir"}
"""Name of the parameter -> its option."""
_given: dict[str, str] = {}


def remember(params: Mapping[str, Any]) -> None:
    """Take the options to repeat from the parameters of the command that runs."""
    _given.clear()
    for name, option in _REPEATED.items():
        value = params.get(name)
        if isinstance(value, Path | str):
            _given[option] = str(value)


def arguments() -> list[str]:
    """Those options as arguments of a command."""
    return [part for option in _given.items() for part in option]


def command(rest: str) -> str:
    """`rad mcp proxy REST` with those options, ready to paste: `stop` becomes `rad mcp proxy stop --config FILE`."""
    name, space, others = rest.partition(" ")
    return f"{shlex.join(['rad', 'mcp', 'proxy', name, *arguments()])}{space}{others}"
