"""`start`, `status` and `stop` as people and scripts mostly write them, without the 90 ms that loading the command line
takes.

Whatever is not written so (help, wrong options, options of `rad` itself) is left to `app`, which has all commands and
calls the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

_FLAGS: Final[Mapping[str, Mapping[str, str]]] = {
    "start": {"--detach": "detach", "--stdio": "stdio"},
    "status": {"--json": "as_json"},
    "stop": {"--now": "now"},
}
"""The options that each of them has beside `--config FILE`, and what they are to its function."""


def command_of(arguments: Sequence[str]) -> Callable[[], Any] | None:
    """What the arguments of `rad` ask for; None for whatever is to be read by `app`."""
    match arguments:
        case ["mcp", "proxy", ("start" | "status" | "stop") as name, *rest]:
            flags = _FLAGS[name]
        case _:
            return None
    config: Path | None = None
    options: dict[str, Any] = dict.fromkeys(flags.values(), False)
    while rest:
        match rest:
            case [flag, *rest] if flag in flags and not options[flags[flag]]:
                options[flags[flag]] = True
            case ["--config", file, *rest] if config is None and file and not file.startswith("-"):
                config = Path(file)
            case ["--ready-fd", number, *rest] if name == "start" and number.isdecimal() and number.isascii():
                options["ready_fd"] = int(number)
            case _:
                return None
    return partial(_function(name), config, **options)


def _function(name: str) -> Callable[..., Any]:
    if name == "start":
        from gateway_core.cli.start import start  # noqa: PLC0415 - each command loads what it needs

        return start
    from gateway_core.cli import probe  # noqa: PLC0415

    return probe.status if name == "status" else probe.stop
