"""When lists are compared: soon, one after the other, and large ones not all the time."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from loguru import logger

from gateway_core.activity.definitions import comparing
from gateway_core.activity.definitions.comparing import Comparisons
from gateway_core.activity.definitions.differences import Differences
from gateway_core.upstream.lists.fetched_lists import Item
from gateway_core.upstream.status import PrivateTo
from tests.activity.conftest import eventually

pytestmark = pytest.mark.timeout(180)


class Stage:
    """Comparisons with what they found and when; `busy`: processor seconds for each text."""

    def __init__(self) -> None:
        self.found: list[tuple[str, Differences]] = []
        self.times: list[float] = []
        self.private: list[bool] = []
        self.busy = 0.0
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.of = Comparisons(self._take, self._clean)

    def add(self, upstream: str, before: str, after: str) -> None:
        self.of.add(upstream, {"tool": [item(before)]}, {"tool": [item(after)]})

    @property
    def order(self) -> list[str]:
        return [upstream for upstream, _ in self.found]

    async def until(self, number: int) -> None:
        async def are_found() -> bool:
            return len(self.found) >= number

        await eventually(are_found)

    def _take(self, upstream: str, found: Differences, is_private: bool) -> None:
        self.found.append((upstream, found))
        self.private.append(is_private)
        self.times.append(time.monotonic())

    def _clean(self, data: bytes) -> bytes:
        assert self.goes_on.wait(120)
        end = time.thread_time() + self.busy
        while time.thread_time() < end:
            pass
        return data


def item(description: str, name: str = "t") -> Item:
    return Item("tool", name, json.dumps({"name": name, "description": description}).encode(), "")


def private_to(viewer: str) -> PrivateTo:
    return PrivateTo(viewer, lambda text: text.replace(f"secret of {viewer}", "[HIDDEN]"))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    made.goes_on.set()
    made.busy = 0.0
    await made.of.close()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    handler = logger.add(found.append, format="{message}", level="WARNING", filter="gateway_core.activity")
    yield found
    logger.remove(handler)


async def test_lists_that_change_again_before_they_are_compared_are_compared_once(stage: Stage) -> None:
    for before, after in (("1", "2"), ("2", "3"), ("3", "4")):
        stage.add("a", before, after)
    await stage.of.close()
    ((_, found),) = stage.found
    assert (found.shown[0].members[0].before, found.shown[0].members[0].after) == ("1", "4")


async def test_private_lists_are_compared_per_agent_without_its_secrets_where_both_have_a_name(stage: Stage) -> None:
    stage.add("a", "1", "2")
    for viewer in ("ada", "bob"):
        before = {"tool": [item("old"), item("x", "only before")]}
        after = {"tool": [item("y", "only after"), item(f"new, secret of {viewer}, secret of nobody")]}
        stage.of.add("a", before, after, private_to(viewer))
    await stage.of.close()
    assert stage.private == [False, True, True]
    shown = [[(one.name, one.members[0].after) for one in found.shown] for _, found in stage.found]
    assert shown == [[("t", "2")], *[[("t", "new, [HIDDEN], secret of nobody")]] * 2]


async def test_the_private_lists_that_wait_are_bounded(stage: Stage) -> None:
    for number in range(comparing.MAX_PRIVATE + 5):
        stage.of.add("a", {"tool": [item("1")]}, {"tool": [item("2")]}, private_to(str(number)))
    stage.of.add("a", {"tool": [item("2")]}, {"tool": [item("3")]}, private_to("0"))
    stage.add("b", "1", "2")
    await stage.of.close()
    assert sorted(stage.private) == [False, *[True] * comparing.MAX_PRIVATE]
    assert {found.shown[0].members[0].after for name, found in stage.found if name == "a"} == {"2", "3"}


async def test_a_bug_in_one_comparison_does_not_end_the_others(stage: Stage) -> None:
    stage.of.add("a", {"tool": [item("1")]}, {"tool": [None]})  # type: ignore[list-item]
    stage.add("b", "1", "2")
    await stage.of.close()
    assert stage.order == ["b"]


async def test_an_upstream_whose_comparison_took_long_waits_and_others_do_not(stage: Stage) -> None:
    stage.busy = 0.03
    stage.add("a", "1", "2")
    await stage.until(1)
    stage.add("a", "2", "3")
    stage.add("b", "1", "2")
    await stage.until(2)
    stage.add("a", "3", "4")
    await stage.until(3)
    assert stage.order == ["a", "b", "a"]
    least = 4 * 0.03  # a name, and a member with two values
    assert stage.times[2] - stage.times[0] >= comparing.PAUSE * least
    assert stage.found[2][1].shown[0].members[0].after == "4"


async def test_the_end_does_not_wait_for_the_pause(
    stage: Stage, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "PAUSE", 1e9)
    stage.add("a", "1", "2")
    await stage.until(1)
    stage.add("a", "2", "3")
    await asyncio.sleep(0.05)
    assert stage.order == ["a"]
    await stage.of.close()
    assert stage.order == ["a", "a"]
    assert lines == []


async def test_the_end_waits_a_limited_time_and_names_what_was_not_compared(
    stage: Stage, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "CLOSE", 0.05)
    stage.goes_on.clear()
    for upstream in "ab":
        stage.add(upstream, "1", "2")
    await stage.of.close()
    assert lines == ["the gateway stops before it has compared the definitions of a, b: their changes are not shown\n"]
    assert not stage.goes_on.is_set(), "the thread is still at work"
    assert stage.found == []
