"""A list that ends its server is skipped; the other lists and the calls work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from loguru import logger

from gateway_core.api import Kind, UpstreamState
from gateway_core.control import report
from gateway_core.upstream import watch as watch_module
from gateway_core.upstream.base import Connection, ServerInfo
from gateway_core.upstream.lists import fatal
from gateway_core.upstream.lists.fatal import FatalLists
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from gateway_core.upstream.upstream import Upstream
from tests.upstream.watch_kit import SERVERS, HandClock, Journal, stdio, until, watching

LISTS = {
    "tools/list": "tool",
    "resources/list": "resource",
    "resources/templates/list": "template",
    "prompts/list": "prompt",
}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "BACKOFF_FIRST", 0.05)
    monkeypatch.setattr("gateway_core.upstream.ejection.BACKOFF_FIRST", 0.05)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def dying(journal: Journal, *options: str, **settings: Any) -> Upstream:
    return stdio("d", str(SERVERS / "dying.py"), "--log", str(journal.file), *options, **settings)


@pytest.mark.parametrize("method", LISTS)
async def test_a_list_that_ends_its_server_is_skipped_and_reported(journal: Journal, method: str) -> None:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="WARNING")
    upstream = dying(journal, "--fatal", method)
    async with watching(upstream):
        await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
        assert upstream.fetched is not None
        found = {name for name, kind in LISTS.items() if upstream.fetched.of(kind)}  # type: ignore[arg-type]
        assert found == LISTS.keys() - {method}
        status = report.upstream(upstream)
        (warning,) = status["warnings"]
        assert status["lists"] == "incomplete"
        assert f"{method} of upstream d is skipped" in warning
        assert "the server ended each of the 2 times that it was asked for this list alone" in warning
        assert f"KeyError: '{method}'" in warning
    logger.remove(sink)
    assert any(f"{method} of upstream d is skipped" in line for line in lines)


async def test_two_lists_that_end_their_server_are_both_skipped(journal: Journal) -> None:
    upstream = dying(journal, "--fatal", "resources/list", "--fatal", "resources/templates/list")
    async with watching(upstream):
        await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
        assert upstream.fetched is not None
        assert upstream.fetched.of("tool")
        assert upstream.fetched.of("prompt")
        assert upstream.fetched.failures.keys() == {"resource", "template"}


async def test_a_page_that_ends_the_server_is_as_fatal_as_a_whole_list(journal: Journal) -> None:
    upstream = dying(journal, "--fatal", "resources/list@2")
    async with watching(upstream):
        await until(lambda: upstream.facts.state is UpstreamState.HEALTHY and upstream.reachable)
        assert upstream.fetched is not None
        assert upstream.fetched.of("tool")
        assert upstream.fetched.failures.keys() == {"resource"}
        starts = len(journal.starts)
        await upstream.refresh()
        assert len(journal.starts) == starts


async def test_a_slow_list_that_ends_its_server_is_found_too(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.upstream.lists.gathering.SIDE_PATIENCE", 0.1)
    upstream = dying(journal, "--fatal", "prompts/list", "--slow", "prompts/list=0.4", health_check_interval=30)
    async with watching(upstream):
        await until(
            lambda: upstream.fetched is not None and "is skipped" in upstream.fetched.failures.get("prompt", "")
        )
        assert "prompts/list" not in journal.starts[-1]
        assert upstream.facts.state is UpstreamState.HEALTHY


async def test_the_only_list_of_a_server_is_never_skipped(journal: Journal, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    upstream = dying(journal, "--fatal", "tools/list", "--capabilities", "tools", "--only", str(broken))
    async with watching(upstream):
        await until(lambda: len(journal.starts) > 3)
        assert upstream.facts.state is UpstreamState.DOWN
        broken.unlink()
        await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
        assert upstream.fetched is not None
        assert upstream.fetched.of("tool")


async def test_a_new_connection_asks_again_after_the_time_of_the_skip(journal: Journal, tmp_path: Path) -> None:
    broken, clock = tmp_path / "broken", HandClock()
    broken.touch()
    upstream = dying(journal, "--fatal", "prompts/list", "--only", str(broken), clock=clock)
    async with watching(upstream):
        await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
        broken.unlink()
        for added, expected in ((1, False), (fatal.SKIP_FIRST, True)):
            clock.turn(added)
            starts = len(journal.starts)
            connection = upstream.connections.main
            assert connection is not None
            await connection.close()
            await until(lambda starts=starts: len(journal.starts) > starts)  # type: ignore[misc]
            await until(lambda lost=connection: upstream.connections.main not in {None, lost})  # type: ignore[misc]
            assert upstream.fetched is not None
            assert bool(upstream.fetched.of("prompt")) is expected
        assert upstream.fetched.failures == {}


# -- by the clock -----------------------------------------------------------------------------------------------------

INFO = ServerInfo("legacy", "2025-11-25", name="s", version="1")


class Lost:
    """A connection that was lost."""

    last_words = "no database"

    async def wait_closed(self) -> str:
        return "exited with status 3"


class Rig:
    """Fatal lists on a clock that tests turn, and fetches during which the connection is lost."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.lists = FatalLists("s", str, self.clock.now)
        self.lists.connected(INFO)

    async def lost(self, *in_flight: Kind, answered: tuple[Kind, ...] = ("tool",)) -> None:
        requests = self.lists.requests([*in_flight, *answered])
        requests.in_flight.update(in_flight)
        requests.answered.update(answered)
        error = await self.lists.lost(cast(Connection, Lost()), {}, requests)
        assert str(error) == "the server exited with status 3"


async def test_a_list_is_fatal_after_two_losses_with_it_alone_in_flight() -> None:
    rig = Rig()
    await rig.lost("prompt", "resource")
    await rig.lost("prompt")
    assert not rig.lists.skipped
    await rig.lost("prompt")
    assert rig.lists.skipped == {"prompt"}
    (failure,) = rig.lists.marked(FetchedLists(), {"prompt"}).failures.values()
    assert failure.endswith(
        "each of the 2 times that it was asked for this list alone (exited with status 3: no database)"
    )


async def test_an_answer_ends_the_suspicion() -> None:
    rig = Rig()
    await rig.lost("prompt")
    requests = rig.lists.requests(["prompt"])
    requests.answered.add("prompt")
    rig.lists.answered(requests)
    await rig.lost("prompt")
    assert not rig.lists.skipped


async def test_a_server_that_answered_no_list_is_not_known_to_work_without_one() -> None:
    rig = Rig()
    for _ in range(5):
        await rig.lost("prompt", answered=())
    assert not rig.lists.skipped


async def test_a_loss_between_lists_proves_nothing() -> None:
    rig = Rig()
    for _ in range(5):
        await rig.lost()
    assert not rig.lists.skipped


async def test_the_time_of_a_skip_doubles_up_to_a_day() -> None:
    rig, skips = Rig(), []
    await rig.lost("prompt")
    for _ in range(9):
        await rig.lost("prompt")
        seconds = 0
        while rig.lists.skipped:
            rig.clock.turn(600)
            seconds += 600
            rig.lists.connected(INFO)
        skips.append(seconds)
    assert skips == [600, 1200, 2400, 4800, 9600, 19200, 38400, 76800, 86400]


async def test_another_version_of_the_server_gets_another_chance() -> None:
    rig = Rig()
    for _ in range(2):
        await rig.lost("prompt")
    rig.lists.connected(INFO)
    assert rig.lists.skipped == {"prompt"}
    rig.lists.connected(replace(INFO, version="2"))
    assert not rig.lists.skipped
