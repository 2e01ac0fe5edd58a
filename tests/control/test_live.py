"""What the control plane shows of calls in flight."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.control.live import LiveCalls
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.testing import make_call


@pytest.mark.parametrize(
    ("method", "name", "shown"),
    [
        ("tools/call", "search", "search"),
        ("resources/read", "https://user:hunter2@files.example/a?token=hunter2", "https://***@files.example/a?…"),
        ("tasks/result", "task-hunter2", ""),
    ],
)
def test_names_are_shown_without_ids_of_tasks_and_without_user_and_query(method: str, name: str, shown: str) -> None:
    exchange = Exchange(Agent(Principal("agent"), "modern", "2026-07-28"), method)
    exchange.identify(make_call(name, method=method))
    parking: Any = type("Parking", (), {"calls": lambda self: [(exchange, 1.0)]})()
    (call,) = LiveCalls(lambda: (), parking).listing()
    assert call["name"] == shown
