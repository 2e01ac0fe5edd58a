"""How long hooks take, if a plugin asks for it."""

import asyncio
import gc
from typing import Any

import pytest

from gateway_core import Call, CallResult, RpcError, hookimpl
from gateway_core.hooks import Chain, ChainProgress
from gateway_core.hooks.times import Spent, measured
from gateway_core.testing import configured, make_call, make_result, make_upstream


class Measuring:
    measures_hooks = True

    @hookimpl
    def before_call(self, call: Call) -> None: ...


class Sync:
    @hookimpl
    def before_call(self, call: Call) -> None: ...

    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> CallResult:
        raise ValueError("a bug")


class Slow:
    @hookimpl
    async def before_call(self, call: Call) -> None:
        await asyncio.sleep(0.02)


class Later:
    """Its `before_call` is a `def` that returns an awaitable."""

    @hookimpl
    def before_call(self, call: Call) -> Any:
        return Slow().before_call(call)


async def run(chain: Chain) -> None:
    progress = ChainProgress()
    await chain.run_before(make_call(), lambda call: call, progress)
    await chain.run_after(progress, make_result())


def chain(*plugins: Any) -> Chain:
    return Chain([configured(plugin, name=type(plugin).__name__.lower()) for plugin in plugins])


async def test_runs_and_seconds_of_each_hook_are_counted_failures_included() -> None:
    measured = chain(Measuring(), Sync(), Slow(), Later())
    for _ in range(3):
        await run(measured)
    assert measured.times is not None
    found = {name: measured.times.of(name) for name in ("measuring", "sync", "slow", "later", "other")}
    runs = {name: {hook: it.calls for hook, it in spent.items()} for name, spent in found.items()}
    assert runs == {
        "measuring": {"before_call": 3},
        "sync": {"before_call": 3, "after_call": 3},
        "slow": {"before_call": 3},
        "later": {"before_call": 3},
        "other": {},
    }
    assert found["slow"]["before_call"].seconds >= 0.05
    assert found["later"]["before_call"].seconds >= 0.05, "however a hook waits"
    assert 0 < found["sync"]["before_call"].seconds < found["slow"]["before_call"].seconds


class Awaitable:
    """Says in the log whether it was closed."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        self.log.append("awaited")
        return "found"

    def close(self) -> None:
        self.log.append("closed")


async def test_a_verdict_that_is_never_awaited_is_closed_and_not_counted() -> None:
    log: list[str] = []
    spent = Spent()
    run = measured(lambda verdict: verdict, spent.ended)
    run(Awaitable(log)).close()
    assert (log, spent.calls) == (["closed"], 0)
    run(asyncio.get_running_loop().create_future()).close()
    assert await run(Awaitable(log)) == "found"
    assert (log, spent.calls) == (["closed", "awaited"], 1)


async def test_a_measured_verdict_that_must_not_wait_is_closed(recwarn: pytest.WarningsRecorder) -> None:
    async def choose() -> None: ...

    class Routes:
        measures_hooks = True

        @hookimpl
        def route_tool(self, call: Call) -> Any:
            return choose()

    with pytest.raises(RpcError, match="failed in route_tool"):
        chain(Routes()).route_tool(make_call(), [make_upstream("a"), make_upstream("b")])
    gc.collect()
    assert recwarn.list == []


async def test_nothing_is_measured_unless_a_plugin_asks() -> None:
    class Asks(Sync):
        measures_hooks = False

    unmeasured = chain(Asks())
    await run(unmeasured)
    assert unmeasured.times is None
    assert not unmeasured.measures_loop_lag


async def test_a_plugin_asks_for_one_measurement_without_the_other() -> None:
    class Asks(Sync):
        measures_hooks = False
        measures_loop_lag = True

    asked = chain(Asks())
    assert asked.measures_loop_lag
    assert asked.times is None
