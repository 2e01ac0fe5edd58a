"""Where an error of pydantic is in the settings of a plugin: the path as the file has it, and what stands there."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo

Loc: TypeAlias = tuple[str | int, ...]
"""Keys and indexes, from the outermost."""


class Place(msgspec.Struct, frozen=True):
    """A place in the settings."""

    path: Loc
    field: FieldInfo | None
    """The innermost key of a table that leads there."""
    annotation: Any
    """The type of the value there."""
    tables: tuple[type[BaseModel], ...]
    """The tables that may have the last key of the path."""
    is_name: bool
    """Whether the error is about the last key itself, in a table with free keys."""


def place_of(model: type[BaseModel], loc: Loc, *, is_unknown: bool) -> Place:
    """The place of an error. `is_unknown`: whether the last part of `loc` is a key that its table does not have.

    Pydantic adds a name to `loc` for each alternative of a type, which the file does not have.
    """
    path: list[str | int] = []
    field: FieldInfo | None = None
    annotation: Any = model
    tables: tuple[type[BaseModel], ...] = ()
    is_chosen = False
    for number, part in enumerate(loc, 1):
        if part == "[key]":
            continue
        if len(alternatives(annotation)) > 1 and not is_chosen:
            is_chosen = True  # this part names the alternative
            continue
        path.append(part)
        is_chosen = False
        if isinstance(part, int):
            annotation = _inside(annotation, -1)
            continue
        tables = tuple(one for one in alternatives(annotation) if inspect.isclass(one) and issubclass(one, BaseModel))
        known = next((found for one in tables if (found := _field(one, part)) is not None), None)
        if known is not None:
            field, annotation = known, known.annotation
        elif not (is_unknown and number == len(loc)):
            annotation = _inside(annotation, 1)
    return Place(tuple(path), field, annotation, tables, "[key]" in loc)


def keys_of(table: type[BaseModel]) -> list[str]:
    """The keys that a table may have."""
    return [field.alias or name for name, field in table.model_fields.items()]


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types of which a value may have one; without None."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) not in {Union, types.UnionType}:
        return (annotation,)
    return tuple(found for one in get_args(annotation) if one is not type(None) for found in alternatives(one))


def _field(table: type[BaseModel], key: str) -> FieldInfo | None:
    return next((field for name, field in table.model_fields.items() if key in {name, field.alias}), None)


def _inside(annotation: Any, argument: int) -> Any:
    """The type of the elements of a list, or of the values of a table; `Any` if it is not known."""
    for one in alternatives(annotation):
        inner = [inside for inside in get_args(one) if inside is not Ellipsis]
        is_table = inspect.isclass(get_origin(one)) and issubclass(get_origin(one), Mapping)
        if inner and is_table is (argument == 1):
            return inner[argument]
    return Any
