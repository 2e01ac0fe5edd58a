"""`rad mcp proxy events`: what happens in the running gateway, as it happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway_core.cli.live.following import Gateway, clock
from gateway_core.cli.rendering.table import sentence
from gateway_core.cli.report import put, put_json, say


def events(config: Path | None, types: str, *, as_json: bool) -> None:
    """Print events until the user interrupts it. Raises `NotRunning`, and `UsageError` for types that do not exist."""
    for _, message in Gateway(config).messages("events", {"types": types}):
        if missed := message.get("missed"):
            say(f"events were left out: {missed} at most")
        for event in message["events"]:
            if as_json:
                put_json(event, in_line=True)
            else:
                put(f"{clock(event['at'])} {event['type']:<11} {sentence(_WORDS[event['type']](event))}")


def _call(event: dict[str, Any]) -> str:
    where = f" at {event['upstream']}" if event["upstream"] else ""
    return f"{call_of(event)}{where} of {event['agent']}: {event['outcome']}, {event['seconds'] * 1000:.1f} ms"


def _upstream(event: dict[str, Any]) -> str:
    why = f": {event['reason']}" if event["reason"] else ""
    return f"{event['name']} is {event['state'].replace('_', ' ')}, and was {event['before'].replace('_', ' ')}{why}"


def _lists(event: dict[str, Any]) -> str:
    return f"changed: {', '.join(event['kinds'])}" + (f" of {event['agent']}" if event["agent"] else "")


def _definitions(event: dict[str, Any]) -> str:
    members = f": {', '.join(event['members'])}" if event["what"] == "changed" else ""
    more = f"; and {event['more']} more" if event["more"] else ""
    return f"{event['upstream']} {event['what']} {event['kind']} {event['name']}{members}{more}"


def _session(event: dict[str, Any]) -> str:
    return f"{event['key']} of {event['agent']} {event['what']}"


def _reload(event: dict[str, Any]) -> str:
    if event["problems"] and not event["changes"]:
        return f"refused; problems: {event['problems']}"
    found = f"generation {event['generation']} is in force; changes: {event['changes']}"
    return f"{found}; a part of the gateway failed to follow them: restart it" if event["problems"] else found


def _question(event: dict[str, Any]) -> str:
    return f"agents being asked: {event['asking']}, parked calls: {event['parked']}"


def _log(event: dict[str, Any]) -> str:
    fields = "".join(f" {key}={value}" for key, value in event["fields"].items())
    return f"{event['level']} {event['text']}{fields}"


_WORDS: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = {
    "call": _call,
    "upstream": _upstream,
    "lists": _lists,
    "definitions": _definitions,
    "session": _session,
    "reload": _reload,
    "question": _question,
    "log": _log,
}
"""Event as a sentence, by its type."""


def call_of(one: dict[str, Any]) -> str:
    """The method and the name of a call; for a tool its name alone."""
    return str(one["name"]) if one["method"] == "tools/call" else f"{one['method']} {one['name']}".strip()
