"""Writes the table of endpoints into `docs/control-plane.md`: `python -m gateway_core.control.docs [FILE]`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, cast

from gateway_core.control.endpoint import AnyEndpoint, Endpoint, WebPage
from gateway_core.control.table import Operations, table

OUTPUT: Final = Path("docs", "control-plane.md")
COMMAND: Final = "python -m gateway_core.control.docs"
_TABLE: Final = re.compile(r"(?<=<!-- endpoints: from the code, by `make docs` -->\n).*?(?=<!-- end -->)", re.DOTALL)
_WHO: Final = {"open": "no token", "read": "read", "change": "change"}


def render(page: str) -> str:
    """The page with the table of the endpoints as they are."""
    made, count = _TABLE.subn(lambda _: rows(table(cast("Operations", None))), page)
    if count != 1:
        raise ValueError("the page must have one place for the table of endpoints")
    return made


def rows(endpoints: Iterable[AnyEndpoint]) -> str:
    """The table."""
    lines = ["| request | token | what it does |", "|---|---|---|"]
    for endpoint in endpoints:
        if isinstance(endpoint, WebPage):
            lines.append(f"| `GET {endpoint.path}` | no token | {endpoint.summary} |")
            continue
        method = endpoint.method if isinstance(endpoint, Endpoint) else "GET"
        names = [f"`{name}`" for name in getattr(endpoint.query, "__struct_fields__", ())]
        query = f"; query: {', '.join(names)}" if names else ""
        lines.append(f"| `{method} {endpoint.path}` | {_WHO[endpoint.right]} | {endpoint.summary}{query} |")
    return "\n".join((*lines, ""))


def main(arguments: list[str]) -> None:
    """Rewrite the page."""
    path = Path(arguments[0]) if arguments else OUTPUT
    path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
