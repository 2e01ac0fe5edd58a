"""The arguments of `rad mcp proxy call`: `--arg key=value` with the types of the tool's schema, and `--data`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway_core.cli.locate import UsageError
from gateway_core.cli.tools.schema import TYPES, Argument, arguments_of, choices_of, is_closed
from gateway_core.mcp import jsonrpc

MAX_STDIN: Final = 16 * 1024 * 1024
_EXAMPLES: Final = {
    "integer": "3",
    "number": "2.5",
    "boolean": "true",
    "array": "[1, 2]",
    "object": '{"a": 1}',
    "null": "null",
    "string": "text",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says: the object of `--data`, and the texts of `--arg`."""

    data: dict[str, Any] | None
    texts: dict[str, str]

    def for_tool(self, definition: Mapping[str, Any] | None) -> dict[str, Any]:
        """The arguments of a call; `--arg` overrides the data.

        `definition`: the tool's, or None if it is not known; values are then JSON, or else text. The data is not
        compared with the schema, so it can send anything that the tool accepts. Raises `UsageError`.
        """
        arguments = dict(self.data or {})
        schema = None if definition is None else definition.get("inputSchema")
        known = {argument.name: argument for argument in arguments_of(schema)}
        for key, text in self.texts.items():
            argument = known.get(key)
            if argument is None:
                _refuse_misspelt(key, known, closed=is_closed(schema))
                arguments[key] = _guessed(text)
            else:
                arguments[key] = value_of(argument, text)
        missing = [one for one in known.values() if one.required and one.name not in arguments]
        if missing and self.data is None:
            listed = ", ".join(f"{argument.name} ({kind_of(argument)})" for argument in missing)
            unknown = ", ".join(key for key in self.texts if key not in known)
            more = f"\n  given, but no argument of the tool: {unknown}" if unknown else ""
            raise UsageError(f"missing: {listed}{more}\n  to give one: --arg {missing[0].name}=…")
        check_text(arguments)
        return arguments


def read_arguments(args: Sequence[str], data: str | None) -> Given:
    """Read `--arg key=value` and `--data JSON` (`-`: stdin). Raises `UsageError`."""
    given = Given(None if data is None else _data(data), _split(args))
    check_text([given.data, given.texts, [_guessed(text) for text in given.texts.values()]])  # before a gateway starts
    return given


class WrongValue(ValueError):
    """A text is no value of an argument. Its message says what is expected."""

    def __init__(self, expected: str, example: str = "") -> None:
        super().__init__(f"must be {expected}")
        self.example: Final = example
        """A text that would be a value; empty if the message lists them."""


def value_of(argument: Argument, text: str) -> Any:
    """The value of `--arg`. Raises `UsageError` with the argument's name and the expected type."""
    try:
        return parse(argument, text)
    except WrongValue as problem:
        example = f"{argument.name}={problem.example}"
        quoted = f"'{example}'" if problem.example[:1] in ("[", "{") else example
        hint = f", for example: --arg {quoted}" if problem.example else ""
        raise UsageError(f"--arg {argument.name}: {problem}{hint}") from None


def parse(argument: Argument, text: str) -> Any:
    """The value of `text` as the argument's schema says. Raises `WrongValue`, `UsageError` for unsendable numbers."""
    if argument.choices:
        for choice in argument.choices:
            if text == choice or (not isinstance(choice, str) and _is_json_of(text, choice)):
                return choice
        expected = choices_of(argument.choices)
        close = closest(text, [choice for choice in argument.choices if isinstance(choice, str)])
        raise WrongValue(f"{'' if len(argument.choices) == 1 else 'one of '}{expected}{_meant(close)}")
    if not argument.types:
        return _guessed(text)
    try:
        value = read_json(text)
    except ValueError:
        pass
    else:
        found = _type_for(value, argument.types)
        if found is not None:
            return int(value) if found == "integer" else value
    if "string" in argument.types:
        return text
    raise WrongValue(kind_of(argument), next(_EXAMPLES[name] for name in argument.types))


def closest(text: str, known: Iterable[str]) -> str:
    """The most similar of these names; empty if none is similar."""
    import difflib  # noqa: PLC0415 - only mistakes need it

    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(text.lower(), list(by_lower), n=1)
    return by_lower[found[0]] if found else ""


def _type_for(value: Any, types: tuple[str, ...]) -> str | None:
    """The type of `types` that a JSON value has. Text in quotes counts as such only where nothing else is allowed."""
    if isinstance(value, bool):
        return "boolean" if "boolean" in types else None
    if isinstance(value, int | float):
        if "integer" in types and (isinstance(value, int) or value.is_integer()):
            return "integer"
        return "number" if "number" in types else None
    if value is None:
        return "null" if "null" in types else None
    if isinstance(value, str):
        return None
    name = "array" if isinstance(value, list) else "object"
    return name if name in types else None


def kind_of(argument: Argument) -> str:
    """What messages call its type: `a whole number`, `\"a\" or \"b\"`."""
    if argument.choices:
        return choices_of(argument.choices)
    return " or ".join(TYPES[name] for name in argument.types) or "any value"


def _is_json_of(text: str, value: Any) -> bool:
    try:
        found = read_json(text)
    except ValueError:
        return False
    return bool(found == value) and isinstance(found, bool) == isinstance(value, bool)


def _refuse_misspelt(key: str, known: Mapping[str, Argument], *, closed: bool) -> None:
    """Raise `UsageError` for an argument that the tool does not take, or that is probably another one misspelt."""
    if not known and not closed:
        return
    close = closest(key, known)
    if close or closed:
        listed = f"; it takes {', '.join(known)}" if known else "; it takes none"
        hint = _meant(close) if close else listed
        raise UsageError(
            f"--arg {key}: the tool has no such argument{hint}\n"
            "  to send it nevertheless: --data with all arguments as JSON"
        )


def _meant(close: str) -> str:
    return f"; did you mean {close}?" if close else ""


def _split(args: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for arg in args:
        key, equals, text = arg.partition("=")
        if not equals or not key:
            raise UsageError(f"--arg {arg}: must be key=value, for example: --arg city=Paris")
        if key in given:
            raise UsageError(f"--arg {key}: is given twice; a list is JSON: --arg '{key}=[1, 2]'")
        given[key] = text
    return given


def _data(data: str) -> dict[str, Any]:
    try:
        found = read_json(_stdin() if data == "-" else data)
    except ValueError as error:
        raise UsageError(f"--data: is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError("""--data: must be a JSON object, for example: --data '{"city": "Paris"}'""")
    return found


def _stdin() -> str:
    text = sys.stdin.read(MAX_STDIN + 1)
    if len(text) > MAX_STDIN:
        raise UsageError(f"--data -: stdin has more than {MAX_STDIN:,} characters; send smaller arguments")
    return text


def _guessed(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return text


def check_text(value: Any) -> None:
    """Raise `UsageError` for text that UTF-8 cannot encode: other bytes on the command line, a lone surrogate."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UsageError("the tool's name, --arg and --data must be valid UTF-8") from None


def read_json(text: str) -> Any:
    """The value of a JSON text. Raises `ValueError`, and `UsageError` for numbers that cannot be sent."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")  # Python's parser accepts NaN and Infinity

    try:
        return json.loads(text, parse_constant=refuse, parse_int=_integer, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _integer(text: str) -> int:
    if len(text) > jsonrpc.MAX_DIGITS:
        raise UsageError(f"--arg, --data: a number has more than {jsonrpc.MAX_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise UsageError(f"--arg, --data: the number {text[:40]} is out of range")
    return number
