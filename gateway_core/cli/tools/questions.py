"""Questions to the person who runs `rad mcp proxy call` at a terminal: elicitation in form and URL mode.

Source: 2026-07-28, client/elicitation.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from gateway_core.cli.locate import UsageError
from gateway_core.cli.report import say
from gateway_core.cli.tools.arguments import WrongValue, kind_of, parse
from gateway_core.cli.tools.schema import Argument, arguments_of
from gateway_core.log.escaping import escape
from gateway_core.mcp.names import PLUGIN_KEY, UPSTREAM_KEY

MAX_LINE: Final = 64 * 1024
"""Bytes of one line that are read."""
_YES: Final = frozenset({"y", "yes"})
_NO: Final = frozenset({"n", "no"})


class Ended(Exception):
    """The person ended the input (Ctrl-D) instead of answering."""


class Terminal:
    """The terminal on stdin and stderr. Reading can be cancelled, unlike `input` in a thread."""

    def __init__(self, descriptor: int | None = None) -> None:
        """`descriptor`: the terminal to read from; by default stdin."""
        self._descriptor: Final = sys.stdin.fileno() if descriptor is None else descriptor

    @staticmethod
    def available() -> bool:
        """Whether a person can be asked: stdin and stderr are terminals."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    async def line(self, prompt: str) -> str:
        """Show `prompt` and read one line, without blanks around it. Raises `Ended`."""
        print(prompt, end="", file=sys.stderr, flush=True)
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._descriptor, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._descriptor)
        data = os.read(self._descriptor, MAX_LINE)  # a terminal returns whole lines
        if not data:
            say()
            raise Ended
        return data.decode(errors="replace").strip()


async def answer(terminal: Terminal, params: Any) -> dict[str, Any]:
    """Ask the question of an `elicitation/create` request; return the JSON of the `ElicitResult`.

    `params`: its `ElicitRequestParams`. The person accepts, declines, or cancels with Ctrl-D.
    """
    say(f"{_asker(params.meta or {})} asks:")
    for line in params.message.splitlines():
        say(f"  {escape(line)}")
    is_form = params.mode == "form"
    fields = arguments_of(params.requested_schema) if is_form else []
    try:
        if not is_form:
            say(f"  {escape(params.url)}")
        if not await _agrees(terminal, "Answer it?" if fields else "Agree?" if is_form else "Have you opened this?"):
            return {"action": "decline"}
        content = {}
        for field in fields:
            value = await _entered(terminal, field)
            if value is not None:
                content[field.name] = value
    except Ended:
        return {"action": "cancel"}
    return {"action": "accept", "content": content} if is_form else {"action": "accept"}


def _asker(meta: Mapping[str, Any]) -> str:
    """Who asks, as the gateway says; see `UPSTREAM_KEY` and `PLUGIN_KEY`."""
    for key, kind in ((PLUGIN_KEY, "plugin"), (UPSTREAM_KEY, "upstream")):
        if isinstance(name := meta.get(key), str):
            return f"{kind} {escape(name)}"
    return "the gateway"


async def _agrees(terminal: Terminal, question: str) -> bool:
    while True:
        text = (await terminal.line(f"{question} [yes/no] ")).lower()
        if text in _YES | _NO:
            return text in _YES


async def _entered(terminal: Terminal, field: Argument) -> Any:
    """The value that the person enters; the default, or None, for an empty line where that is allowed."""
    default = field.schema.get("default")
    title = field.schema.get("title")
    name = escape(title if isinstance(title, str) and title else field.name)
    kind = "" if field.types == ("string",) and not field.choices else f" ({kind_of(field)})"
    shown = "" if default is None else f" [{escape(str(default))}]"
    if field.description and field.description != title:
        say(f"  {escape(field.description)}")
    while True:
        text = await terminal.line(f"{name}{kind}{shown}: ")
        if not text and (default is not None or not field.required):
            return default
        if text:
            try:
                return parse(field, text)
            except (WrongValue, UsageError) as problem:
                say(f"  {name} {problem}")
