"""How long hooks take, if a plugin asks for it."""

import asyncio
from typing import Any

import pytest

from gateway_core import Call, CallResult, hookimpl
from gateway_core.hooks import Chain, ChainProgress
from gateway_core.testing import configured, make_call, make_result


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


async def run(chain: Chain) -> None:
    progress = ChainProgress()
    await chain.run_before(make_call(), lambda call: call, progress)
    await chain.run_after(progress, make_result())


def chain(*plugins: Any) -> Chain:
    return Chain([configured(plugin, name=type(plugin).__name__.lower()) for plugin in plugins])


async def test_runs_and_seconds_of_each_hook_are_counted_failures_included() -> None:
    measured = chain(Measuring(), Sync(), Slow())
    for _ in range(3):
        await run(measured)
    assert measured.times is not None
    found = {name: measured.times.of(name) for name in ("measuring", "sync", "slow", "other")}
    runs = {name: {hook: it.calls for hook, it in spent.items()} for name, spent in found.items()}
    assert runs == {
        "measuring": {"before_call": 3},
        "sync": {"before_call": 3, "after_call": 3},
        "slow": {"before_call": 3},
        "other": {},
    }
    assert found["slow"]["before_call"].seconds >= 0.05
    assert 0 < found["sync"]["before_call"].seconds < found["slow"]["before_call"].seconds


@pytest.mark.parametrize("asks", [False, 1, "yes"])
async def test_nothing_is_measured_unless_a_plugin_asks(asks: Any) -> None:
    class Asks(Sync):
        measures_hooks = asks

    unmeasured = chain(Asks())
    await run(unmeasured)
    assert unmeasured.times is None
