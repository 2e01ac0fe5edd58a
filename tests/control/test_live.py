"""What the control plane shows of calls in flight."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.control.live import LiveCalls
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.deadlines import Deadline, Deadlines
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


async def test_the_time_of_a_call_includes_the_start_of_its_server() -> None:
    deadlines, now = Deadlines(), asyncio.get_running_loop().time()
    exchange = Exchange(Agent(Principal("agent"), "modern", "2026-07-28"), "tools/call")
    deadline = Deadline(deadlines, exchange, started=now - 10.0, when=now + 50.0, longest=300.0)
    deadlines.running.add(deadline)
    deadline.suspend(30.0)
    deadline.resume(8.0)
    pipeline: Any = SimpleNamespace(deadlines=deadlines, max_timeout=300.0)
    parking: Any = SimpleNamespace(calls=list)
    (call,) = LiveCalls(lambda: [pipeline], parking).listing()
    assert call["seconds"] == pytest.approx(10.0, abs=1.5)
