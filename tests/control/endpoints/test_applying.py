"""What requests that change the configuration file answer while another change is in progress."""

from __future__ import annotations

import asyncio

import pytest

from gateway_core.generations import reloads
from tests.control.endpoints.conftest import Controlled
from tests.generations.conftest import served

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("holder", ["reload", "edit"])
async def test_edits_and_reloads_wait_for_each_other_for_a_bounded_time_and_learn_what_holds_them(
    stand: Controlled, monkeypatch: pytest.MonkeyPatch, holder: str
) -> None:
    await stand.start(served("one"))
    content = stand.path.read_text()
    changes = {"changes": [{"key": "timeout", "value": 7.0}]}
    reading, go_on = stand.hold_checks(monkeypatch)
    first = ("POST", "reload", None) if holder == "reload" else ("PATCH", "config", changes)
    running = asyncio.ensure_future(stand.ask(*first))
    await reading.wait()
    monkeypatch.setattr(reloads, "CHANGE_WAIT", 0.05)
    version = (await stand.ask("GET", "config"))[1]["version"]
    for method, path, body in (
        ("POST", "reload", None),
        ("PATCH", "config", changes),
        ("PUT", "config", {"text": content, "version": version}),
        ("POST", "upstreams/one/disable", None),
    ):
        status, answer = await stand.ask(method, path, body)
        assert (status, answer.keys()) == (503, {"error"})
        name = "a reload" if holder == "reload" else "an edit"
        assert answer["error"].startswith(f"{name} of the configuration has been in progress since 2"), path
    assert stand.path.read_text() == content
    monkeypatch.setattr(reloads, "CHANGE_WAIT", 60.0)
    waiting = [asyncio.ensure_future(stand.ask(*one)) for one in (("POST", "reload"), ("PATCH", "config", changes))]
    await asyncio.sleep(0.05)
    go_on.set()
    assert [status for status, _ in await asyncio.gather(running, *waiting)] == [200] * 3
    assert stand.gateway.pipeline.timeout == 7.0
