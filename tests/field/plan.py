"""What a client does with an odd server, and what it should get: the steps that every client takes.

A step is a JSON object, so that clients in any language can take it: `do` says what, `right` what it should give.
"""

from __future__ import annotations

from typing import Any, Final

from tests.field.plain import TEXT

Step = dict[str, Any]

ERROR: Final = "an error"
"""The right end of a step that has to fail: an error of the protocol, or a result with `isError`, and not silence."""
SILENCE: Final = "nothing came in time"
"""The error of a step that did not end."""
ANY: Final = "anything"
"""The right end of a step that may fail."""


def call(name: str, right: Any, **arguments: Any) -> Step:
    return {"do": "call", "name": name, "arguments": arguments, "right": right}


def wait(seconds: float) -> Step:
    return {"do": "wait", "seconds": seconds, "right": None}


def lists(
    server: str, *, tools: tuple[str, ...] = ("echo", "add"), prompts: tuple[str, ...] = ("greet",)
) -> list[Step]:
    """The four lists of a server, of which only what carries its name counts."""
    memo = f"memo://{server}/"
    return [
        {"do": "tools", "with": f"{server}_", "right": [f"{server}_{tool}" for tool in tools]},
        {"do": "prompts", "with": f"{server}_", "right": [f"{server}_{prompt}" for prompt in prompts]},
        {"do": "resources", "with": memo, "right": [f"{memo}note"]},
        {"do": "templates", "with": memo, "right": [f"{memo}{{name}}"]},
    ]


def calls(server: str) -> list[Step]:
    """Two calls of tools."""
    return [call(f"{server}_echo", TEXT, text=TEXT), call(f"{server}_add", "5", a=2, b=3)]


def usual(server: str) -> list[Step]:
    """Everything that a plain server offers, once."""
    return [*lists(server), *calls(server), *reads(server)]


def reads(server: str) -> list[Step]:
    """A resource and a prompt."""
    greeted = {"name": f"{server}_greet", "arguments": {"who": "Ada"}}
    return [
        {"do": "read", "uri": f"memo://{server}/note", "right": f"note of {server}"},
        {"do": "prompt", **greeted, "right": "Hello Ada"},
    ]


def is_right(step: Step, end: dict[str, Any]) -> bool:
    """Whether a step ended as it should; `end` has `got` or `error`."""
    right = step["right"]
    if right == ANY:
        return True
    if right == ERROR:
        return "error" in end and end["error"] != SILENCE
    return "error" not in end and bool(end.get("got") == right)
