"""Where the time of a call went: in a queue, in a plugin, at a server, with a person."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from mcp import types

from gateway_core import Decision, HookStep, HopStep, Reject, WaitStep, hookimpl
from gateway_core.activity.details import of_ended
from gateway_core.activity.events import EndedCall
from gateway_core.activity.recorder import MAX_STEPS, bounded
from gateway_core.activity.timeline import spent, timeline
from gateway_core.exchange.trail import Mark
from gateway_core.hooks import loader
from gateway_core.testing import configured
from tests.activity.conftest import SERVER, Stand, eventually
from tests.activity.test_activity import ASKER

pytestmark = pytest.mark.timeout(180)
PAUSE = 1.0
"""Seconds that the slow plugin takes."""


class Slow:
    """Takes its time before a call, and none after it."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    @hookimpl
    async def before_call(self, call: Any) -> Reject | None:
        if call.name == "wait":
            await asyncio.sleep(PAUSE)
            await self.goes_on.wait()
        return None

    @hookimpl
    def after_call(self, call: Any) -> None: ...


async def details_of(stand: Stand, name: str) -> Any:
    """What is known of the last call of a tool."""
    (call, *_) = (await stand.ask(f"/admin/calls/recent?name={name}"))["calls"]
    return await stand.ask(f"/admin/calls/{call['id']}")


def spans(details: Any) -> list[tuple[str, str, str]]:
    return [(it["what"], it["who"], it["text"]) for it in details["timeline"] if it["what"] != "progress"]


def of_upstream(details: Any) -> list[tuple[str, str, str]]:
    return [one for one in spans(details) if one[0] in {"waited", "tried", "sent", "replied"}]


async def test_a_parked_call_that_goes_on_shows_its_request_in_both_calls(stand: Stand) -> None:
    """The server knows no modern requests, so that it asks in the middle of its call."""
    await stand.start(upstreams=(ASKER,))
    await stand.ask("/admin/calls/recent")

    async def agree(*_: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"greeting": "Hello"})

    async with stand.client(elicitation_callback=agree) as client:
        await client.call_tool("greet", {"who": "you"})
    found = await stand.ask("/admin/calls/recent?name=greet")
    after, before = [await stand.ask(f"/admin/calls/{call['id']}") for call in found["calls"]]
    assert [one for one in of_upstream(before) if one[0] != "waited"] == [("sent", "asker", "")]
    assert of_upstream(after)[-2:] == [("sent", "asker", ""), ("replied", "asker", "")]
    assert after["spent"]["upstreams"] > 0


async def test_a_slow_server_and_a_slow_plugin_show_different_spans(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "load", lambda *_, **__: [configured(Slow, name="slow")])
    await stand.start()
    await stand.ask("/admin/calls/recent")
    async with stand.client() as client:
        await client.call_tool("wait", {"seconds": 0.6})
        await client.call_tool("echo", {"text": "x"})
    details = await details_of(stand, "wait")
    assert spans(details) == [
        ("began", "", ""),
        ("ran", "slow", "before_call"),
        ("sent", "desk", ""),
        ("replied", "desk", ""),
        ("ran", "slow", "after_call"),
        ("ended", "desk", "ok"),
    ]
    took = {(it["what"], it["text"]): it["seconds"] for it in details["timeline"]}
    assert took["ran", "before_call"] >= PAUSE
    assert took["sent", ""] >= 0.6
    assert took["ran", "after_call"] < PAUSE
    parts = details["spent"]
    assert parts["plugins"] >= PAUSE
    assert parts["upstreams"] >= 0.6
    assert (parts["people"], parts["waiting"]) == (0, 0)
    assert sum(parts.values()) == pytest.approx(details["seconds"], abs=0.05)
    quick = await details_of(stand, "echo")
    assert quick["spent"]["plugins"] < PAUSE


def another(name: str, **settings: Any) -> dict[str, Any]:
    """A second server with the tools of the first."""
    return {"name": name, "transport": "stdio", "command": sys.executable, "args": [str(SERVER)], **settings}


async def test_the_time_in_the_queue_of_an_upstream_is_seen(stand: Stand) -> None:
    await stand.start(upstreams=(another("narrow", max_in_flight=1),))
    await stand.ask("/admin/calls/recent")
    async with stand.client() as client:
        first = asyncio.create_task(client.call_tool("narrow__wait", {"seconds": 4}))

        async def is_there() -> bool:
            return any(call["sent"] for call in (await stand.ask("/admin/calls"))["calls"])

        await eventually(is_there)
        await client.call_tool("narrow__echo", {"text": "x"})
        await first
    details = await details_of(stand, "narrow__echo")
    assert of_upstream(details) == [("waited", "narrow", "place"), ("sent", "narrow", ""), ("replied", "narrow", "")]
    assert details["spent"]["waiting"] > details["spent"]["upstreams"]


async def test_the_start_of_a_lazy_server_is_seen(stand: Stand) -> None:
    await stand.start(upstreams=(another("sleeper", start="lazy"),))
    await stand.ask("/admin/calls/recent")
    async with stand.client() as client:

        async def is_idle() -> bool:
            (found,) = [one for one in (await stand.ask("/admin/status"))["upstreams"] if one["name"] == "sleeper"]
            return bool(found["state"] == "idle")

        await eventually(is_idle)
        await client.call_tool("sleeper:echo", {"text": "x"})
    details = await details_of(stand, "sleeper:echo")
    waited, sent, replied = of_upstream(details)[-3:]
    assert (waited, sent, replied) == (
        ("waited", "sleeper", "start"),
        ("sent", "sleeper", ""),
        ("replied", "sleeper", ""),
    )


async def test_a_call_in_flight_shows_what_it_is_doing(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    slow.goes_on.clear()
    monkeypatch.setattr(loader, "load", lambda *_, **__: [configured(slow, name="slow")])
    await stand.start()
    await stand.ask("/admin/calls/recent")

    async def shows(step: tuple[str, str, Any]) -> Any:
        for one in (await stand.ask("/admin/calls"))["calls"]:
            found = await stand.ask(f"/admin/calls/{one['id']}")
            if step in [(it["what"], it["who"], it["seconds"]) for it in found["timeline"]]:
                return found
        return None

    async with stand.client() as client:
        call = asyncio.create_task(client.call_tool("wait", {"seconds": 40}))
        await eventually(lambda: shows(("ran", "slow", None)))
        slow.goes_on.set()
        details = await eventually(lambda: shows(("sent", "desk", None)))
        await stand.ask(f"/admin/calls/{details['id']}/cancel", "POST")
        await call
    assert details["spent"]["plugins"] >= PAUSE
    ended = await stand.ask(f"/admin/calls/{details['id']}")
    assert ("sent", "desk", "cancelled") in spans(ended)


class Watcher:
    """Keeps what observers learn, and what is measured when they learn it."""

    def __init__(self, _: object = None) -> None:
        self.steps: list[Any] = []
        self.measured: list[bool] = []
        self.gateway: Any = None

    @hookimpl
    def before_call(self, call: Any) -> None:
        self.measured.append(bool(self.gateway._reloads.current.pipeline.chain.timelines))

    @hookimpl
    def observe(self, event: Any) -> None:
        if getattr(event, "method", "") == "tools/call":
            self.steps.append(event.steps)


async def test_nothing_is_measured_while_no_reader_watches_and_plugins_get_no_steps_of_calls_that_one_watches(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = configured(Watcher, name="watcher")
    monkeypatch.setattr(loader, "load", lambda *_, **__: [loaded])
    await stand.start()
    plugin: Any = loaded.instance
    plugin.gateway = stand.gateway
    async with stand.client() as client:
        await client.call_tool("echo", {"text": "x"})
        await client.call_tool("fail", {"text": "x"})
        assert plugin.measured[-2:] == [False, False]
        details = await details_of(stand, "fail")
        assert (details["spent"], spans(details)) == (None, [("began", "", ""), ("ended", "desk", "tool_error")])
        await client.call_tool("echo", {"text": "x"})
        assert plugin.measured[-1]
    assert plugin.steps == [(), (), ()]
    assert stand.gateway._reloads.current.pipeline.chain.timelines == {}, "no call is left in it"


def test_the_parts_add_up_and_each_moment_counts_once() -> None:
    steps = [
        HookStep("gate", "before_call", 100.0, 1.0),
        WaitStep("desk", "place", 101.0, 2.0, "done"),
        HopStep("desk", 0, 103.0, 6.0, "answered"),
        HookStep("late", "after_call", 109.0, 5.0),
    ]
    marks = [Mark(104.0, "asked", "desk", "elicit"), Mark(106.0, "answered", "desk", "elicit")]
    assert spent(100.0, 110.0, marks, steps) == {
        "people": 2.0,
        "plugins": 2.0,
        "upstreams": 4.0,
        "waiting": 2.0,
        "gateway": 0.0,
    }
    assert spent(100.0, 120.0, [Mark(115.0, "parked")], [])["people"] == 5.0


def test_a_hook_that_began_before_the_time_in_the_record_counts_and_comes_second() -> None:
    ended = EndedCall(
        *("id", "tools/call", "echo", "ann", False, "modern", None, "desk", "ok", None),
        *(1.0, 0.0, 100.0003, 1, True, 10, (), (), ()),
        seq=1,
        at=101.0003,
    )
    found = of_ended(
        ended, [HookStep("p", "before_call", 100.0, 0.0001), HopStep("desk", 1, 100.0002, 0.9, "answered")]
    )
    assert [it["what"] for it in found["timeline"]] == ["began", "ran", "sent", "replied", "ended"]
    assert found["spent"] is not None
    assert found["spent"]["plugins"] == pytest.approx(0.0001)
    assert sum(found["spent"].values()) == pytest.approx(1.0003)


def test_a_step_outside_of_the_call_takes_nothing_from_the_others() -> None:
    steps = [HookStep("p", "before_call", 99.0, 0.5), HopStep("s", 1, 100.0, 1.0, "answered")]
    assert spent(100.0, 101.0, [], steps) == {
        **dict.fromkeys(("people", "plugins", "waiting", "gateway"), 0.0),
        "upstreams": 1.0,
    }


def test_a_decision_that_was_measured_stands_once_with_its_time() -> None:
    passed, refused = Decision("policy", "pass", "all"), Decision("limit", "refuse", "60")
    steps = [HookStep("policy", "before_call", 10.0, 0.5, passed)]
    found = timeline(10.0, [(10.5, passed), (10.6, refused)], (), steps, ())
    assert [(it["what"], it["who"], it["text"], it["seconds"]) for it in found] == [
        ("began", "", "", None),
        ("decided", "policy", "pass all", 0.5),
        ("decided", "limit", "refuse 60", None),
    ]


async def test_the_steps_that_are_kept_of_one_call_are_bounded(stand: Stand) -> None:
    steps = tuple(HookStep("p", "before_call", float(number), 0.0) for number in range(MAX_STEPS * 3))
    kept = bounded(steps)
    assert len(kept) == MAX_STEPS
    assert (kept[0], kept[-1]) == (steps[0], steps[-1])
