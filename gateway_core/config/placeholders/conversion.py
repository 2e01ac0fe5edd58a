"""Numbers and booleans from `${…}`: a text that was exactly one placeholder may fill a key of another type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic_core import ErrorDetails

from gateway_core.config.report import Problem, wrong_type
from gateway_core.config.source import Path

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})")
_BOOLEANS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _boolean(text: str) -> bool | None:
    return _BOOLEANS.get(text.lower())


_CONVERSIONS: Final[Mapping[str, Callable[[str], bool | int | float | None]]] = {
    "int_type": _whole,
    "float_type": _number,
    "bool_type": _boolean,
}
"""Type of pydantic's error for a text in the place of such a value -> the conversion of the text."""


def convert(
    data: dict[str, Any], errors: Iterable[ErrorDetails], whole: set[Path], sources: Mapping[Path, str]
) -> list[Problem]:
    """Replace texts of `data` that came from one placeholder by the numbers and booleans that the models want there.

    `errors`: what the models say of `data`. `whole`: the paths of texts that may be converted. Returns a problem for
    each text that is no such value; it does not show the text.
    """
    problems = []
    for error in errors:
        path: Path = error["loc"]
        conversion = _CONVERSIONS.get(error["type"])
        text = error["input"]
        if conversion is None or path not in whole or not isinstance(text, str):
            continue
        value = conversion(text.strip())
        if value is None:
            problems.append(wrong_type(path, error["type"], sources[path]))
            continue
        table: Any = data
        for part in path[:-1]:
            table = table[part]
        table[path[-1]] = value
    return problems
