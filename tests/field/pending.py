"""What the gateway does not do yet: how the names of odd servers begin, and the kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pytest

SERVERS: Final[Mapping[str, str]] = {}


def is_pending(name: str) -> bool:
    """Whether the gateway does not work with a server yet."""
    return name.startswith(tuple(SERVERS))


def parameters(odd: Iterable[Any]) -> list[Any]:
    """Parameters of a test; pending ones are marked."""

    def marks(name: str) -> list[pytest.MarkDecorator]:
        reasons = [reason for start, reason in SERVERS.items() if name.startswith(start)]
        return [pytest.mark.xfail(reason=reasons[0], strict=False)] if reasons else []

    return [pytest.param(one, id=str(one), marks=marks(str(one))) for one in odd]
