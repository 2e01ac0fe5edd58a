"""What the tests of the catalog share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from loguru import logger


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """What the gateway has logged so far."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="INFO", format="{message}")
    yield lambda: "".join(lines)
    logger.remove(sink)
