"""What blocks the event loop is logged, with the plugin that does it."""

import asyncio
import time
import types
from collections.abc import Iterator

import pytest
from loguru import logger

from gateway_core.log.loop_lag import BOUNDS, Lags, LoopLag


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    sink = logger.add(lambda message: found.append(str(message)), format="{message}", level="WARNING")
    yield found
    logger.remove(sink)


@pytest.fixture
async def lag(lines: list[str]) -> LoopLag:
    watching = LoopLag({"gateway_greedy": "greedy"})
    watching.start()
    yield watching  # type: ignore[misc]
    watching.stop()


def block(seconds: float) -> None:
    time.sleep(seconds)


def of_package(name: str) -> types.FunctionType:
    """`block`, as if it were defined in this package."""
    return types.FunctionType(block.__code__, {"__name__": name, "time": time}, "block")


async def until(lines: list[str], count: int = 1) -> None:
    async with asyncio.timeout(20):
        while len(lines) < count:
            await asyncio.sleep(0.02)


async def test_a_blocked_loop_is_logged_with_the_function_that_blocked_it(lag: LoopLag, lines: list[str]) -> None:
    await asyncio.sleep(0.1)
    block(0.5)
    await until(lines)
    assert "the event loop was blocked for 0." in lines[0]
    assert "block (log/test_loop_lag.py:" in lines[0]
    assert "plugin" not in lines[0]


async def test_a_plugin_is_named(lag: LoopLag, lines: list[str]) -> None:
    await asyncio.sleep(0.1)
    of_package("gateway_greedy.plugin")(0.5)
    await until(lines)
    assert "in plugin greedy: block" in lines[0]


async def test_a_loop_that_stays_blocked_is_logged_meanwhile(lag: LoopLag, lines: list[str]) -> None:
    await asyncio.sleep(0.1)
    deadline = time.monotonic() + 20
    while not lines and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "and still is" in lines[0]


async def test_one_place_is_logged_once_a_minute(
    lag: LoopLag, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    due = lag._spoken.due

    def asked(where: str) -> bool:
        found.append(where)
        return due(where)

    monkeypatch.setattr(lag._spoken, "due", asked)
    for _ in range(3):
        await asyncio.sleep(0.2)
        block(0.4)
    await asyncio.sleep(0.3)
    assert len(found) >= 3
    assert len(lines) == 1


async def test_a_waiting_loop_is_not_reported_however_late_it_is(lag: LoopLag, lines: list[str]) -> None:
    """A busy machine may not run the process for a while."""
    lag._beat = time.monotonic() - 60
    await asyncio.sleep(0.3)
    assert lines == []


async def test_a_histogram_of_all_lags_is_kept_on_request(lines: list[str]) -> None:
    watching = LoopLag({}, measures=True)
    watching.start()
    lags = watching.lags
    assert lags is not None
    async with asyncio.timeout(20):
        while sum(lags.counts) < 3:
            await asyncio.sleep(0.02)
    before = sum(lags.counts[BOUNDS.index(0.25) :]), lags.seconds
    block(0.5)
    await asyncio.sleep(0.02)
    assert sum(lags.counts[BOUNDS.index(0.25) :]) == before[0] + 1
    assert lags.seconds >= before[1] + 0.4
    watching.use({}, measures=True)
    assert watching.lags is lags
    watching.use({}, measures=False)
    assert watching.lags is None
    watching.stop()


def test_a_lag_counts_up_to_its_bound() -> None:
    lags = Lags()
    for late in (0.0, 0.001, 0.0011, 5.0, 5.1):
        lags.add(late)
    assert lags.counts == [2, 1, *[0] * (len(BOUNDS) - 3), 1, 1]
    assert lags.seconds == pytest.approx(10.1021)


async def test_lags_are_measured_only_on_request(lag: LoopLag) -> None:
    await asyncio.sleep(0.2)
    assert lag.lags is None


async def test_nothing_is_watched_after_the_end(lines: list[str]) -> None:
    watching = LoopLag({})
    watching.start()
    watching.stop()
    await asyncio.sleep(0.1)
    block(0.4)
    await asyncio.sleep(0.2)
    assert lines == []
