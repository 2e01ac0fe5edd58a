"""Work that a failure must not cut short: the steps of an end, and polls. Failures are logged, without payloads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn, TypeVar

from loguru import logger

from gateway_core.internal_errors import where
from gateway_core.log.sparing import Sparing

E = TypeVar("E")
T = TypeVar("T")
Step = Callable[[], Awaitable[object] | None]
"""Does its work at once, or returns what to await."""


async def uninterrupted(work: Awaitable[T]) -> T:
    """The result of `work`, which runs to its end although the caller is cancelled; the cancellation follows then."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report it
        raise cancelled
    return task.result()


async def run_all(during: str, *steps: Step) -> None:
    """Run all steps in order, each even if an earlier one fails or the caller is cancelled.

    `during`: what goes on, for the log, such as "closing upstream NAME". Raises only `CancelledError`, after the last
    step.
    """
    await uninterrupted(_all(during, steps))


async def _all(during: str, steps: tuple[Step, ...]) -> None:
    for step in steps:
        try:
            if (rest := step()) is not None:
                await rest
        except asyncio.CancelledError as error:  # of what the step waits for, unless the loop is closing
            if _cancelled():
                raise
            failed(during, error)
        except Exception as error:  # noqa: BLE001 - the next step still has to run
            failed(during, error)


async def cancel_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until they have ended. Their failures are dropped."""
    ending = tuple(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def run_now(during: str, *steps: Callable[[], None]) -> bool:
    """Run all steps in one turn of the loop, and log failures. Returns whether there were none."""
    whole = True
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the next step still has to run
            failed(during, error)
            whole = False
    return whole


def run_each(during: str, logged: Sparing, each: Iterable[E], step: Callable[[E], None]) -> None:
    """Run a step for each of several, such as sessions, also after a failure for one, which is logged once a minute."""
    for one in each:
        try:
            step(one)
        except Exception as error:  # noqa: BLE001 - the step still has to run for the others
            if logged.due(during):
                failed(during, error)


async def poll(during: str, interval: float, *steps: Step) -> NoReturn:
    """Run all steps every `interval` seconds, until cancelled. A kind of failure is logged at most once a minute."""
    logged = Sparing()
    while True:
        await asyncio.sleep(interval)
        for step in steps:
            try:
                if (rest := step()) is not None:
                    await rest
            except (Exception, asyncio.CancelledError) as error:  # the next poll may succeed
                if isinstance(error, asyncio.CancelledError) and _cancelled():
                    raise
                if logged.due(type(error).__name__):
                    failed(during, error)


def _cancelled() -> bool:
    """Whether the current task was cancelled, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def failed(during: str, error: BaseException) -> None:
    """Log a failure that ends nothing. `during`: what goes on, such as "closing upstream NAME"."""
    logger.error("{} while {}\n{}", type(error).__name__, during, where(error))
