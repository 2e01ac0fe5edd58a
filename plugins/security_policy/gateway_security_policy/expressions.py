"""Expressions of rules, in CEL (Common Expression Language), by the C++ implementation of the CEL project.

An expression is compiled and type-checked once, at start, with the members of `principal` and `tool`. Evaluation is
bounded: only the arguments that the expression names are converted, within the bounds of `bounds.py` and `MAX_DEPTH`
levels; the library ends it after 10,000 steps of loops; the macros whose cost is quadratic (`map`, `filter`) are
refused, and so are patterns that are not written in the rule.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from gateway_security_policy.bounds import Bounds, bounds_of, check, code_of

if TYPE_CHECKING:
    from cel_expr_python import cel

MAX_DEPTH: Final = 64
VARIABLES: Final = ("principal", "tool", "arguments")
MEMBERS: Final[Mapping[str, Mapping[str, str]]] = {
    "principal": {
        **dict.fromkeys(("id", "subject", "issuer", "client_name", "address", "profile"), "text"),
        "verified": "boolean",
        **dict.fromkeys(("groups", "scopes"), "texts"),
        "claims": "object",
    },
    "tool": {
        **dict.fromkeys(("kind", "name", "original_name", "upstream", "tier"), "text"),
        "annotations": "object",
    },
}
"""Variable -> its members -> their types. The members of `arguments` are not known before a call."""
_UNDECLARED: Final = re.compile(r"undeclared reference to '(principal|tool)(?:\.(\w+))?[^']*'(.*)")
_TESTED: Final = re.compile(r"\bhas\s*\(\s*\.?\s*(principal|tool)\s*\.\s*(\w+)\s*\)")
_INT64: Final = range(-(2**63), 2**63)
_ARGUMENTS: Final = re.compile(r"(?<![\w.])arguments\b(?:\s*\.\s*([A-Za-z_]\w*)(?!\w|\s*\())?")
_NAMED: Final = re.compile(r"\barguments\b")


class EvaluationError(Exception):
    """An expression has no value: a member is missing, a type is wrong, a bound is passed."""


class Expression:
    """A compiled expression. Raises `ValueError`, with a reason for the operator, if it is not valid."""

    __slots__ = ("_bounds", "_members", "_program", "source", "uses")

    def __init__(self, source: str) -> None:
        self.source = source
        code = code_of(source)
        check(code)
        self._program = _compiled(source, VARIABLES)
        _check_members(source, code)
        self.uses: Final = frozenset(name for name in VARIABLES if not _compiles_without(source, name))
        """The variables that it reads."""
        self._members: Final = _members(code)
        self._bounds: Final = bounds_of(source, code)

    def holds(self, principal: Mapping[str, Any], tool: Mapping[str, Any], arguments: Mapping[str, Any] | None) -> bool:
        """Evaluate it. `arguments`: None if it does not use them. Raises `EvaluationError`."""
        given: dict[str, Any] = {}
        if arguments is not None:
            wanted = arguments
            if self._members is not None:
                wanted = {name: arguments[name] for name in self._members if name in arguments}
            given = _Plain(self._bounds).object(wanted)
        try:
            found = self._program.eval(data={"principal": principal, "tool": tool, "arguments": given})
            kind, value = found.type().name(), found.plain_value()
        except RuntimeError as error:
            raise EvaluationError(_reason(error)) from None
        if kind == "ERROR":
            raise EvaluationError(_reason(value))
        if not isinstance(value, bool):
            raise EvaluationError("its value is neither true nor false")
        return value


def _members(code: str) -> tuple[str, ...] | None:
    """The members of `arguments` that an expression reads; None if they cannot be told from its text."""
    found = list(_ARGUMENTS.finditer(code))
    if len(found) != len(_NAMED.findall(code)) or any(match[1] is None for match in found):
        return None
    return tuple(dict.fromkeys(match[1] for match in found))


@lru_cache(maxsize=8)
def _environment(variables: tuple[str, ...]) -> cel.Env:
    """The environment in which expressions are evaluated: each variable is an object."""
    from cel_expr_python import cel  # noqa: PLC0415 - loaded only if a rule has an expression

    object_type = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.NewEnv(variables=dict.fromkeys(variables, object_type))


@lru_cache(maxsize=1)
def _typed_environment() -> cel.Env:
    """The environment in which members are checked: each member is a variable with a type."""
    from cel_expr_python import cel  # noqa: PLC0415 - loaded only if a rule has an expression

    text, object_type = cel.Type.STRING, cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    types = {"text": text, "boolean": cel.Type.BOOL, "texts": cel.Type.List(text), "object": object_type}
    members = {f"{name}.{member}": types[kind] for name, of in MEMBERS.items() for member, kind in of.items()}
    return cel.NewEnv(variables={**members, "arguments": object_type})


def _check_members(source: str, code: str) -> None:
    """Raise `ValueError` for a member that `principal` or `tool` does not have, or that has another type."""
    for name, member in _TESTED.findall(code):
        if member in MEMBERS[name]:
            raise ValueError(f"{name}.{member} always exists; leave out has")
    try:
        _check_type(_typed_environment().compile(source))
    except RuntimeError as error:
        reason = _reason(error)
    else:
        return
    found = _UNDECLARED.match(reason)
    if found is None:
        raise ValueError(f"has a type error: {reason}")
    name, member, place = found.groups()
    known = f"it has {', '.join(MEMBERS[name])}"
    if member is None:
        raise ValueError(f"{name} is not a value; write one of its members after a dot: {known}{place}")
    close = difflib.get_close_matches(member, MEMBERS[name], n=1)
    hint = f"did you mean {name}.{close[0]}?" if close else known
    raise ValueError(f"{name} has no member {member}; {hint}{place}")


def _compiled(source: str, variables: tuple[str, ...]) -> cel.Expression:
    if not source.isprintable() and not all(char.isprintable() or char in "\t\r\n" for char in source):
        raise ValueError("contains a character that is not printable")
    try:
        program = _environment(variables).compile(source)
    except RuntimeError as error:
        raise ValueError(f"is not valid CEL: {_reason(error)}") from None
    _check_type(program)
    return program


def _check_type(program: cel.Expression) -> None:
    kind = program.return_type().name()
    if kind not in {"BOOL", "DYN"}:
        raise ValueError(f"must be true or false, and is of the type {kind.lower()}")


def _compiles_without(source: str, variable: str) -> bool:
    try:
        _compiled(source, tuple(name for name in VARIABLES if name != variable))
    except ValueError:
        return False
    return True


def _reason(error: object) -> str:
    """The first line of an error of the library, without its own words around it."""
    line = str(error).splitlines()[0]
    line = re.sub(r"^[A-Z_]+: (?:ERROR: )?| \[[A-Z_]+\]$", "", line)
    place = re.match(r"<input>:(-?\d+):(-?\d+): (.*)", line)
    if place is None:
        return line[:200]
    where = "" if place[1].startswith("-") else f" (line {place[1]}, column {place[2]})"
    return place[3].removesuffix(" (in container '')")[:200] + where


class _Plain:
    """Copies decoded JSON into what the library takes: plain objects and arrays, integers of 64 bits; counts."""

    def __init__(self, bounds: Bounds) -> None:
        self._values = bounds.values
        self._characters = bounds.characters

    def object(self, members: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
        return {self._text(key): self._value(value, depth) for key, value in members.items()}

    def _text(self, text: str) -> str:
        self._characters -= len(text)
        if self._characters < 0:
            raise EvaluationError("the arguments that it names are too long")
        return text

    def _value(self, value: Any, depth: int) -> Any:
        self._values -= 1
        if self._values < 0 or depth >= MAX_DEPTH:
            raise EvaluationError("the arguments that it names have too many values or levels")
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return self.object(value, depth + 1)
        if isinstance(value, list):
            return [self._value(element, depth + 1) for element in value]
        if isinstance(value, int) and not isinstance(value, bool) and value not in _INT64:
            try:
                return float(value)
            except OverflowError:
                raise EvaluationError("a number is too large") from None
        return value
