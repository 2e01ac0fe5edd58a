"""Rows of the fault matrix in which an upstream breaks: the end of the call, the bystanders, what is left afterwards.

All rows share one gateway, so a fault that leaves something behind fails the rows after it, too.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.conftest import Answer, Bystanders, Rad, Started, over_http, over_stdio, wait_until

TIMEOUT = 6.0
"""Seconds until a call is given up."""
BODY = 1_000_000
"""Bytes of an answer at most."""
FRAGILE = ("dies", "orphans", "stops")
"""Children that a row ends; each has a row for itself, because a child that dies often is started more rarely."""


class Stage:
    """A gateway over an upstream that breaks over HTTP, one on stdio, and some that are fine."""

    def __init__(self, rad: Rad, journal: Path) -> None:
        self.rad, self.journal = rad, journal
        self.descriptors, self.children = rad.descriptors(), len(rad.family())

    def received(self, tool: str) -> int:
        """How often the upstream over HTTP was asked for a tool."""
        return self.journal.read_text().splitlines().count(tool)

    @asynccontextmanager
    async def bystanders(self, *tools: str) -> Any:
        async with Bystanders(self.rad, tools or ("wild__ok", "pipe__ok")):
            yield

    async def breaks(self, tool: str, *others: str, **arguments: Any) -> Answer:
        """Call a tool that breaks while others are called, and see that nothing is left of it."""
        async with self.bystanders(*others):
            answer = await self.rad.call(tool, **arguments)
        self.settled()
        return answer

    def settled(self) -> None:
        """Wait until nothing is in flight, and no child or descriptor is left."""

        def nothing_is_left() -> bool:
            status = self.rad.status()
            return (
                all(each["in_flight"] == 0 and each["state"] == "healthy" for each in status.values())
                and len(self.rad.family()) == self.children
                and self.rad.descriptors() <= self.descriptors + 2
            )

        wait_until(nothing_is_left, f"{self.children} children, {self.descriptors} descriptors, and nothing in flight")


@pytest.fixture(scope="session")
def stage(started_once: Started) -> Stage:
    url, journal = started_once.server("wild")
    rad = started_once.gateway(
        [
            over_http("wild", url),
            over_http("slow", url, max_in_flight=2),
            over_stdio("pipe"),
            *(over_stdio(name, health_check_interval=1) for name in FRAGILE),
        ],
        timeout=TIMEOUT,
        limits={"response_body": BODY},
    )
    rad.wait_for("wild", "slow", "pipe", *FRAGILE)
    asyncio.run(warm(rad))
    return Stage(rad, journal)


async def warm(rad: Rad) -> None:
    """Open the connections to the upstreams, which stay open."""
    async with Bystanders(rad, ("wild__ok", "pipe__ok"), each=20), Bystanders(rad, ("slow__ok",), each=2):
        pass


async def test_row_01_upstream_killed_mid_call(stage: Stage) -> None:
    answer = await stage.breaks("wild__hang_up")
    assert answer.unknown
    assert stage.received("hang_up") == 1, "a call that may have run is not sent again"


async def test_row_02_child_killed_mid_call(stage: Stage) -> None:
    before = stage.rad.family()
    answer = await stage.breaks("dies__die")
    assert answer.unknown
    assert "SIGKILL" in str(answer.message)
    assert stage.rad.family() - before, "it was started again"


async def test_row_03_child_dies_while_a_grandchild_holds_the_pipe(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    answer = await stage.breaks("orphans__orphan", file=str(file))
    assert answer.unknown
    orphan = Path(f"/proc/{file.read_text()}")
    wait_until(lambda: not orphan.exists(), "the grandchild has been ended")


async def test_row_06_noise_on_stdout(stage: Stage) -> None:
    for _ in range(3):
        assert (await stage.breaks("pipe__noise")).text == "ok"


async def test_row_07_flood_on_stderr(stage: Stage) -> None:
    before = len(stage.rad.text)
    assert (await stage.breaks("pipe__flood", "wild__ok", megabytes=100)).text == "ok"
    assert len(stage.rad.text) - before < 1_000_000


async def test_row_08_child_stops_reading(stage: Stage) -> None:
    answer = await stage.breaks("stops__stop")
    assert answer.unknown


async def test_row_12_trickle(stage: Stage) -> None:
    answer = await stage.breaks("wild__trickle")
    assert answer.unknown, "1,000 bytes at ten bytes a second take longer than the deadline, however alive it looks"


async def test_row_13_no_answer(stage: Stage) -> None:
    cancelled = stage.received("cancelled")
    answer = await stage.breaks("wild__never")
    assert answer.unknown
    wait_until(lambda: stage.received("cancelled") > cancelled, "the upstream has been sent the cancellation")


async def test_row_14_malformed_json(stage: Stage) -> None:
    assert (await stage.breaks("wild__malformed")).unknown
    assert stage.received("malformed") == 1
    assert (await stage.breaks("pipe__malformed")).unknown


async def test_row_15_wrong_id(stage: Stage) -> None:
    answer = await stage.breaks("wild__wrong_id")
    assert answer.unknown
    assert "forged" not in str(answer.message)


@pytest.mark.parametrize("tool", ["wild__twice", "pipe__twice"])
async def test_row_16_duplicate_response(stage: Stage, tool: str) -> None:
    for _ in range(3):  # a second answer that stayed would be the next call's
        assert (await stage.breaks(tool)).text == "ok"


async def test_row_17_response_to_the_id_of_another_agent(stage: Stage) -> None:
    """The child also answers calls before and after its own."""
    async with stage.bystanders("wild__ok"):
        answer = await stage.rad.call("pipe__other_id")
    assert answer.text == "ok"
    async with stage.bystanders("pipe__ok"):
        pass
    stage.settled()


@pytest.mark.parametrize("tool", ["html_502", "html_200"])
async def test_row_18_web_page(stage: Stage, tool: str) -> None:
    answer = await stage.breaks(f"wild__{tool}")
    assert answer.unknown
    assert "secret page" not in str(answer.message)


async def test_row_19_redirect_to_another_origin(stage: Stage) -> None:
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        trap.setblocking(False)
        answer = await stage.breaks("wild__redirect", to=f"http://127.0.0.1:{trap.getsockname()[1]}/mcp")
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert answer.unknown or answer.code is not None


async def test_row_20_giant_body(stage: Stage) -> None:
    before = stage.rad.resident()
    stage.rad.forget_peak()
    assert (await stage.breaks("wild__giant")).unknown
    assert stage.rad.peak() - before < 20 * BODY


async def test_row_21_compressed_answer(stage: Stage) -> None:
    before = stage.rad.resident()
    stage.rad.forget_peak()
    assert (await stage.breaks("wild__gzip")).unknown
    assert stage.rad.peak() - before < 20 * BODY


async def test_row_22_endless_comments(stage: Stage) -> None:
    assert (await stage.breaks("wild__comments")).unknown


async def test_row_23_event_without_end(stage: Stage) -> None:
    before = stage.rad.resident()
    stage.rad.forget_peak()
    assert (await stage.breaks("wild__endless_event")).unknown
    assert stage.rad.peak() - before < 20 * BODY


async def test_row_25_stream_ends_without_the_answer(stage: Stage) -> None:
    assert (await stage.breaks("wild__ends")).unknown
    assert stage.received("ends") == 1


@pytest.mark.parametrize("tool", ["wild__not_utf8", "pipe__not_utf8"])
async def test_row_26_invalid_utf8(stage: Stage, tool: str) -> None:
    assert (await stage.breaks(tool)).unknown


async def test_row_27_deep_nesting(stage: Stage) -> None:
    assert (await stage.breaks("wild__deep")).unknown
    assert "RecursionError" not in stage.rad.text


async def test_row_28_ambiguous_members_and_long_numbers(stage: Stage) -> None:
    answer = await stage.breaks("wild__duplicates")
    assert answer.unknown
    answer = await stage.breaks("wild__numbers")
    assert answer.message["result"]["n"] == [123456789012345678901234567890, 1.0]


async def test_row_36_upstream_ignores_a_cancellation(stage: Stage) -> None:
    """Calls that agents gave up keep both slots of their upstream for a while; other upstreams serve meanwhile."""

    async def received(journalled: str, count: int) -> None:
        async with asyncio.timeout(60):
            while stage.received(journalled) < count:
                await asyncio.sleep(0.02)

    before, cancelled = stage.received("ok"), stage.received("cancelled")
    async with aiohttp.ClientSession() as http:
        calls = [asyncio.create_task(stage.rad.call("slow__ok", http, seconds=5)) for _ in range(2)]
        await received("ok", before + 2)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
    await received("cancelled", cancelled + 2)
    refused = await stage.rad.call("slow__ok")
    assert "it may still work on calls that were cancelled" in refused.message["error"]["message"]
    assert stage.received("ok") == before + 2
    async with stage.bystanders():
        pass
    async with asyncio.timeout(60):
        while (await stage.rad.call("slow__ok")).text != "ok":
            await asyncio.sleep(0.1)
    stage.settled()
