"""`status` and `stop` as people and scripts mostly write them, without the 90 ms that loading the command line takes.

Whatever is not written so (help, wrong options, options of `rad` itself) is left to `app`, which has all commands and
calls the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

_FLAGS: Final = {"status": "--json", "stop": "--now"}
"""The option that each of them has beside `--config FILE`."""


def command_of(arguments: Sequence[str]) -> Callable[[], None] | None:
    """What the arguments of `rad` ask for; None for whatever is to be read by `app`."""
    match arguments:
        case ["mcp", "proxy", ("status" | "stop") as name, *rest]:
            flag, config = False, None
        case _:
            return None
    while rest:
        match rest:
            case [option, *rest] if option == _FLAGS[name] and not flag:
                flag = True
            case ["--config", file, *rest] if config is None and file and not file.startswith("-"):
                config = Path(file)
            case _:
                return None
    from gateway_core.cli import probe  # noqa: PLC0415 - the other commands have their own way to it

    return partial(probe.status, config, as_json=flag) if name == "status" else partial(probe.stop, config, now=flag)
