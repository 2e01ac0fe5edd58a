"""What plugins show operators on the control plane: pages, and what limits leave an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a plugin on the control plane, for GET.

    A plugin lists its pages in the attribute `pages`. The gateway answers with `render(status)`, which runs in a thread
    and has some seconds; `status` is what `rad mcp proxy status --json` shows.
    """

    path: str
    """Where it is, such as `/metrics`: letters, digits, `-`, `_` and `.` between slashes."""
    render: Callable[[Mapping[str, Any]], bytes]
    content_type: str = "text/plain; charset=utf-8"
    token: str = field(default="", repr=False)
    """A bearer token for this page alone; the tokens of the control plane open all pages."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one limit of a plugin leaves one agent, from its optional method `allowances(principal)`."""

    what: str
    """What is limited, in words: the name of a tool, or `each other tool`."""
    limit: int
    per: str
    """The period of the limit: `minute`, `day`."""
    remaining: int
    """How much is allowed now."""
    of: str = "agent"
    """Whose limit it is: `agent`, or `address` for all agents at its address together."""
    wait: float = 0.0
    """Seconds until something is allowed; 0 if it is now."""
