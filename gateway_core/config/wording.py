"""The words for wrong values, in the file's own keys and in the settings of plugins.

No sentence shows a value: callers who know that a value is no secret add it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

_TYPES: Final = {
    **dict.fromkeys(("string_type", "secret_type", "path_type", "string_sub_type"), "text in quotes"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"), "a table"),
    "finite_number": "a finite number",
}
"""Type of pydantic's error -> the type of TOML that the key has."""
_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "a boolean"),  # before int, because bool is a subclass of int
    (int, "a whole number"),
    (float, "a number"),
    (str, "text"),
    (list, "a list"),
    (tuple, "a list"),
    (dict, "a table"),
)
BOUNDS: Final = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}
"""Type of pydantic's error -> the bound in words."""
_LENGTHS: Final = {
    "too_short": ("at least {min_length}", "element"),
    "too_long": ("at most {max_length}", "element"),
    "string_too_short": ("at least {min_length}", "character"),
    "string_too_long": ("at most {max_length}", "character"),
}


def type_wanted(kind: str) -> str | None:
    """The type of TOML that a value must have, in words. `kind`: the type of pydantic's error; None if of another."""
    return _TYPES.get(kind)


def type_found(value: Any) -> str:
    """The TOML type of `value`, in words."""
    for kind, words in _KINDS:
        if isinstance(value, kind):
            return words
    return "a date or time"


def wanted(kind: str, context: Mapping[str, Any], annotation: Any) -> str | None:
    """What a value must be, in words: a type, a bound, one of some texts. None for an error of another kind.

    `kind` and `context`: of pydantic's error. `annotation`: the type of the key.
    """
    if kind in BOUNDS:
        return BOUNDS[kind].format_map(context)
    if kind == "literal_error" and (choices := choices_of(annotation)):
        return one_of(choices)
    return _TYPES.get(kind)


def length_wanted(kind: str, context: Mapping[str, Any]) -> str | None:
    """What an error of pydantic about a length says; None for another error."""
    if kind == "string_pattern_mismatch":
        return f"must have the form {context['pattern']}"
    if kind not in _LENGTHS:
        return None
    bound, unit = _LENGTHS[kind]
    number = context.get("min_length", context.get("max_length"))
    if kind == "string_too_short" and number == 1:
        return "must not be empty"
    return f"must have {bound.format_map(context)} {unit}{'' if number == 1 else 's'}"


def one_of(choices: Iterable[Any]) -> str:
    """`one of "a", "b"`."""
    quoted = [f'"{choice}"' if isinstance(choice, str) else str(choice).lower() for choice in choices]
    return f"{'one of ' if len(quoted) > 1 else ''}{', '.join(quoted)}"


def choices_of(annotation: Any) -> tuple[Any, ...]:
    """The values of the first `Literal` in an annotation."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for inner in get_args(annotation) if (found := choices_of(inner))), ())


def close_choice(value: Any, choices: Iterable[Any]) -> str:
    """`; did you mean …?` for a text that is like one of the choices; empty otherwise."""
    by_lower = {str(choice).lower(): choice for choice in choices}
    close = closest(value, by_lower) if isinstance(value, str) else ""
    return f'; did you mean "{by_lower[close]}"?' if close else ""


def closest(text: str, known: Iterable[str]) -> str:
    """The closest of these lower-case words; empty if none is close."""
    return next(iter(difflib.get_close_matches(text.lower(), list(known), n=1)), "")


def unknown_key(key: str, known: Sequence[str]) -> str:
    """What is wrong with a key that a table does not have. `known`: the keys that it may have."""
    if close := closest(key, known):
        return f'is not a known key; did you mean "{close}"?'
    return f"is not a known key; known here: {', '.join(known)}" if known else "is not a known key; none is known here"


def bounds_of(field: FieldInfo) -> str:
    """The bounds of a number in words; empty if it has none."""
    bounds = {
        name: getattr(rule, name) for rule in field.metadata for name in ("gt", "ge", "lt", "le") if hasattr(rule, name)
    }
    if "ge" in bounds and "le" in bounds:
        return f"from {bounds['ge']} to {bounds['le']}"
    kinds = {"gt": "greater_than", "ge": "greater_than_equal", "lt": "less_than", "le": "less_than_equal"}
    return " and ".join(BOUNDS[kinds[name]].format_map(bounds) for name in bounds)
