"""Pages of plugins on the control plane."""

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
