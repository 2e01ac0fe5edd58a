"""Reads JSON objects that other parties sent. Two parsers cannot read an accepted object differently."""

from __future__ import annotations

import json
import math
from typing import Any, Final

MAX_DEPTH: Final = 16
"""Maximum levels of nesting."""
_MAX_INTEGER: Final = 2**63


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises `ValueError`, also for duplicate names, NaN, huge numbers and invalid Unicode."""
    try:
        found = json.loads(
            data.decode(), object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of error for callers
    _check(found, MAX_DEPTH)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated")
    return found


def _integer(text: str) -> int:
    number = int(text)
    if abs(number) >= _MAX_INTEGER:
        raise ValueError("a number is too large")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _check(value: Any, levels: int) -> None:
    """Raise `ValueError` for more than `levels` of nesting, and for lone surrogates in texts (`UnicodeEncodeError`)."""
    if levels == 0:
        raise ValueError("nested too deeply")
    match value:
        case str():
            value.encode()
        case dict():
            for name, member in value.items():
                name.encode()
                _check(member, levels - 1)
        case list():
            for member in value:
                _check(member, levels - 1)
