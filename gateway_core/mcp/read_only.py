"""Decoded JSON that cannot be changed in place.

All plugins share decoded payloads, and a change in place would reach later plugins but not the upstream. Therefore
objects and arrays are a `dict` and a `list` whose mutators raise `ReadOnlyError`. They work wherever a dict or a list
does: `isinstance`, `json`, msgspec, pydantic. Copies are plain and mutable: `copy.deepcopy(value)` at every level;
`dict(value)`, `value | {…}`, `value.copy()`, `list(value)` and slices at the top level only.
"""

from __future__ import annotations

import copy
from typing import Any, Final, NoReturn

ADVICE: Final = (
    "payloads are read-only; change a copy (copy.deepcopy) and return call.replace(arguments=…) or result.replace(…)"
)


class ReadOnlyError(TypeError):
    """Code tried to change a payload in place."""

    def __init__(self) -> None:
        super().__init__(ADVICE)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ReadOnlyError


class ReadOnlyDict(dict[str, Any]):
    """A JSON object."""

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: copy.deepcopy(value, memo) for key, value in self.items()}

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


class ReadOnlyList(list[Any]):
    """A JSON array."""

    __slots__ = ()

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(value, memo) for value in self]

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)


_CONTAINERS: Final = frozenset({dict, list})


def read_only(value: Any) -> Any:
    """A copy of decoded JSON, read-only at every level; scalars and read-only values are not copied."""
    kind = value.__class__
    if kind is dict:
        return ReadOnlyDict(
            {key: item if item.__class__ not in _CONTAINERS else read_only(item) for key, item in value.items()}
        )
    if kind is list:
        return ReadOnlyList([item if item.__class__ not in _CONTAINERS else read_only(item) for item in value])
    return value


def read_only_object(pairs: list[tuple[str, Any]]) -> ReadOnlyDict:
    """A read-only object with these members; the last value of a repeated key wins.

    For `object_pairs_hook`: objects among the values are read-only already, arrays are not.
    """
    return ReadOnlyDict([(key, value if value.__class__ is not list else read_only(value)) for key, value in pairs])
