"""The text of the question: what would be called, with which arguments.

Agents choose the arguments and servers the names, so the text makes visible what could mislead its reader: control
characters, characters without a width, and those that change the direction of writing.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from gateway_core.api.call import Call
from gateway_core.api.hiding.hider import Hider
from gateway_core.api.tier import Tier
from gateway_core.mcp.literals import Kind

Effect: TypeAlias = Tier | None
"""What a tool does, as its server claims; None if the server claims nothing."""

MAX_SHOWN: Final = 10_000
"""Characters of the arguments that a question may show; a message of a question has 16,384 at most."""
MAX_NAMES: Final = 40
"""Arguments that are shown."""
MAX_LEVELS: Final = 12
"""Levels of nesting that are shown."""
MAX_SEARCHED: Final = 64 * 1024
"""Characters of a text that are searched for secrets and shown."""
MAX_NAME: Final = 60
"""Characters of a name that are shown."""
MAX_URI: Final = 600
"""Characters of a resource's URI that are shown."""
MAX_REASON: Final = 1000
"""Characters of the reason that are shown."""
MAX_SERVERS: Final = 8

_WORDS: Final[Mapping[Kind, tuple[str, str, str]]] = {
    "tool": ("Allow this call of a tool?", "Tool", "further calls of this tool, whatever their arguments,"),
    "prompt": ("Allow the use of this prompt?", "Prompt", "further uses of this prompt, whatever their arguments,"),
    "template": ("Allow this completion?", "Template", "further completions of this template"),
    "resource": ("Allow this resource to be read?", "Resource", "further reads of this resource"),
}
_EFFECTS: Final[Mapping[Effect, str]] = {
    "read": "only reads, as its server says",
    "write": "changes something but deletes nothing, as its server says",
    "destructive": "may change or delete something",
    None: "unknown; its server does not say",
}
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
"""General categories of characters that a reader does not see, or that act on others."""
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters and marks without a shape."""
_SELECTORS: Final = range(0xE0100, 0xE01F0)


def question(call: Call, effect: Effect, *, reason: str, remembered: str, hider: Hider, max_shown: int) -> str:
    """The text of the question. `effect`: of a tool. `reason`: why a person is asked, in the operator's words.

    `remembered`: how long an approval counts for other calls; empty if it does not.
    """
    kind = call.kind
    begin, what, others = _WORDS[kind]
    shown = partial(_uri, hider) if kind in {"resource", "template"} else _name
    original = "" if call.original_name == call.name else f" ({shown(call.original_name)} on the server)"
    servers = [_name(server) for server in call.upstreams[:MAX_SERVERS]]
    if len(call.upstreams) > MAX_SERVERS:
        servers.append("others")
    lines = [
        begin,
        "",
        *([f"Reason: {_cut(visible(reason), MAX_REASON)}"] if reason else []),
        f"Server: {' or '.join(servers)}",
        f"{what}: {shown(call.name)}{original}",
        *([f"Effect: {_EFFECTS[effect]}"] if kind == "tool" else []),
        *(_arguments(call.arguments, hider, max_shown) if kind in {"tool", "prompt"} else []),
    ]
    if remembered:
        lines += ["", f"If you accept, {others} pass {remembered}."]
    return "\n".join(lines)


def _arguments(arguments: Mapping[str, Any], hider: Hider, max_shown: int) -> list[str]:
    if not arguments:
        return ["Arguments: none"]
    lines, cut = ["Arguments:"], len(arguments) > MAX_NAMES
    share = max_shown // min(len(arguments), MAX_NAMES)
    few = {name: _bounded(value) for name, value in list(arguments.items())[:MAX_NAMES]}
    for name, value in hider.value(few).items():
        shown = visible(json.dumps(value, ensure_ascii=False))
        if len(shown) > share:
            # Both ends: what matters must not be hidden by what comes before it.
            left_out = f" … {len(shown) - share} characters … "
            shown, cut = f"{shown[: share * 2 // 3]}{left_out}{shown[len(shown) - share // 3 :]}", True
        lines.append(f"  {_name(name)}: {shown}")
    if len(arguments) > MAX_NAMES:
        lines.append(f"  and {len(arguments) - MAX_NAMES} more")
    if cut:
        lines.append("  (The arguments are too long to be shown completely.)")
    return lines


def _name(name: str) -> str:
    return _cut(visible(name), MAX_NAME)


def _cut(shown: str, most: int) -> str:
    return shown if len(shown) <= most else f"{shown[:most]}…"


def _bounded(value: Any, level: int = 1) -> Any:
    """What is shown of decoded JSON, before secrets are hidden."""
    if isinstance(value, str):
        return value if len(value) <= MAX_SEARCHED else f"{value[:MAX_SEARCHED]}…"
    if isinstance(value, Mapping | list | tuple) and level >= MAX_LEVELS:
        return "[more levels]"
    if isinstance(value, Mapping):
        return {key: _bounded(item, level + 1) for key, item in value.items()}
    return [_bounded(item, level + 1) for item in value] if isinstance(value, list | tuple) else value


def _uri(hider: Hider, uri: str) -> str:
    """Both ends of a URI, without secrets: its host and its last part must be seen."""
    shown = visible(hider.text(_bounded(uri)))
    return shown if len(shown) <= MAX_URI else f"{shown[: MAX_URI // 2]} … {shown[-MAX_URI // 2 :]}"


def visible(given: str) -> str:
    """The text with everything that its reader would not see as an escape: `\\u202e`."""
    if given.isascii() and given.isprintable():
        return given
    return "".join(char if _is_seen(char) else _escaped(char) for char in given)


def _is_seen(char: str) -> bool:
    if char == " ":
        return True
    return unicodedata.category(char) not in _HIDDEN and char not in _BLANK and ord(char) not in _SELECTORS


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"
