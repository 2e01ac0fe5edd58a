"""Rows of the fault matrix whose promise the gateway does not keep yet: each test says what is missing."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Started, over_stdio
from tests.ports import free_port


@pytest.mark.xfail(strict=True, reason="the rate limit is kept in the process; it cannot be shared through Redis")
async def test_row_54_redis_is_down(started: Started) -> None:
    """Without its shared store, the rate limit falls back to the process's own count."""
    limit = {"name": "security_ratelimit", "rate_limit_per_minute": 1, "redis": f"redis://127.0.0.1:{free_port()}"}
    rad = started.gateway([over_stdio("pipe")], plugins=[limit])
    rad.wait_for("pipe")
    assert [(await rad.call("ok")).text for _ in range(2)] == ["ok", ""]
