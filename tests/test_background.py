"""Work that no caller waits for."""

import asyncio

import pytest
from loguru import logger

from gateway_core.background import Background


@pytest.fixture
def lines() -> list[str]:
    found: list[str] = []
    handle = logger.add(found.append, format="{message}", level="DEBUG")
    yield found
    logger.remove(handle)


async def test_more_work_than_the_limit_is_dropped() -> None:
    background = Background("test", limit=2)
    release = asyncio.Event()
    assert [background.run(release.wait) for _ in range(4)] == [True, True, False, False]
    assert len(background) == 2
    release.set()
    await background.wait()
    assert len(background) == 0
    assert background.run(release.wait)
    await background.wait()


async def test_of_much_work_each_has_its_turn() -> None:
    background = Background("test", at_once=3)
    running = most = done = 0

    async def work() -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done += 1

    for _ in range(100):
        background.run(work)
    await background.wait()
    assert (most, done) == (3, 100)


async def test_work_that_takes_too_long_is_cancelled(lines: list[str]) -> None:
    background = Background("test", timeout=0.01, expected=(TimeoutError,))
    cancelled: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append("cancelled")
            raise

    background.run(work)
    await background.wait()
    assert cancelled == ["cancelled"]
    assert lines == []


async def test_a_bug_is_logged_without_its_message_and_an_expected_failure_is_not(lines: list[str]) -> None:
    background = Background("washing up", expected=(OSError,))

    async def fail(error: Exception) -> None:
        raise error

    background.run(lambda: fail(ConnectionResetError("gone")))
    background.run(lambda: fail(ZeroDivisionError("secret")))
    await background.wait()
    (line,) = lines
    assert line.startswith("ZeroDivisionError while washing up\n")
    assert "test_background.py" in line
    assert "secret" not in line


async def test_what_does_not_end_in_time_is_cancelled_at_the_close() -> None:
    background = Background("test")
    release = asyncio.Event()
    background.run(release.wait)
    background.run(lambda: asyncio.sleep(60))
    asyncio.get_running_loop().call_later(0.01, release.set)
    await background.close(0.1)
    await background.wait()
    assert len(background) == 0


async def test_waiting_includes_work_that_begins_meanwhile() -> None:
    background = Background("test")
    done: list[str] = []

    async def second() -> None:
        done.append("second")

    async def first() -> None:
        await asyncio.sleep(0)
        background.run(second)

    background.run(first)
    await background.wait()
    assert done == ["second"]
