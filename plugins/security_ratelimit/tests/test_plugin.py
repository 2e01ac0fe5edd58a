"""`security_ratelimit`: GCRA per agent and tool."""

import pytest
from gateway_security_ratelimit import arrivals
from gateway_security_ratelimit.plugin import RateLimit
from msgspec.structs import replace
from pydantic import ValidationError

from gateway_core import Answer, Ask, Reject, hookimpl
from gateway_core.testing import FakeUpstream, FakeUser, configured, make_call, run_call, run_hook


class Limiter:
    """A limiter whose clock is turned by hand."""

    def __init__(self, **settings):
        self.now = 1000.0
        self.plugin = RateLimit(
            RateLimit.Config(**settings), clock=lambda: self.now, wall=lambda: 20_000 * 86_400 + self.now
        )

    def call(self, name="echo", **call) -> Reject | None:
        return run_hook(self.plugin, "before_call", make_call(name, **call))

    def passed(self, times, **call):
        return sum(self.call(**call) is None for _ in range(times))


def test_as_many_calls_as_the_limit_may_come_at_once_and_no_more():
    assert Limiter(rate_limit_per_minute=60).passed(200) == 60


def test_the_default_is_sixty_a_minute():
    assert Limiter().passed(61) == 60


def test_after_the_burst_one_call_passes_each_interval():
    limiter = Limiter(rate_limit_per_minute=60)
    limiter.passed(60)
    for _ in range(10):
        limiter.now += 1.0
        assert limiter.passed(5) == 1


def test_no_edge_of_a_minute_doubles_the_burst():
    limiter = Limiter(rate_limit_per_minute=60)
    limiter.now = 1019.9
    first = limiter.passed(100)
    limiter.now = 1020.1
    assert first + limiter.passed(100) <= 61


def test_an_idle_minute_gives_the_whole_burst_back_and_not_more():
    limiter = Limiter(rate_limit_per_minute=60)
    limiter.passed(60)
    limiter.now += 3600
    assert limiter.passed(200) == 60


def test_the_burst_can_be_smaller_than_the_limit():
    limiter = Limiter(rate_limit_per_minute=60, burst=1)
    assert limiter.passed(5) == 1
    limiter.now += 1.0
    assert limiter.passed(5) == 1


def test_refused_calls_do_not_count():
    limiter = Limiter(rate_limit_per_minute=60)
    limiter.passed(1000)
    limiter.now += 1.0
    assert limiter.call() is None


def test_the_refusal_names_limit_tool_and_seconds():
    limiter = Limiter(rate_limit_per_minute=6)
    limiter.passed(6)
    limiter.now += 2.5
    refusal = limiter.call()
    assert refusal == Reject(
        "Rate limit exceeded: 6 calls per minute for tool 'echo'; try again in 7.5 s",
        retry_after=7.5,
        data={"limits": [{"limit": 6, "per": "minute", "of": "agent", "remaining": 0}]},
        rule="6 calls per minute",
    )
    limiter.now += refusal.retry_after
    assert limiter.call() is None, "coming back when told to is enough"


def test_agents_and_tools_do_not_share_a_limit():
    limiter = Limiter(rate_limit_per_minute=1)
    assert limiter.call() is None
    assert limiter.call() is not None
    assert limiter.call(principal="other@127.0.0.1") is None
    assert limiter.call("add") is None


def test_the_tools_published_name_counts_not_the_name_that_it_was_called_by():
    limiter = Limiter(rate_limit_per_minute=1)
    call = make_call("echo")
    assert run_hook(limiter.plugin, "before_call", call) is None
    explicit = replace(call, name="upstream:echo")
    assert run_hook(limiter.plugin, "before_call", explicit) is not None
    unknown = replace(explicit, tool=None)
    assert run_hook(limiter.plugin, "before_call", unknown) is None, "another tool, as far as anybody knows"


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_call_that_a_plugin_asks_about_counts_once(era):
    class Careful:
        @hookimpl
        def before_call(self, call):
            return None if call.answers else Ask("may it?")

    limiter, user = configured(RateLimit, rate_limit_per_minute=2), FakeUser(Answer("accept"), Answer("accept"))
    for _ in range(2):
        assert (await run_call(make_call(era=era), FakeUpstream(), limiter, Careful(), user=user)).error is None
    refused = await run_call(make_call(era=era), FakeUpstream(), limiter, Careful(), user=user)
    assert refused.error.message.startswith("Rate limit exceeded")


def test_zero_switches_it_off():
    limiter = Limiter(rate_limit_per_minute=0)
    assert limiter.passed(500) == 500
    assert not limiter.plugin._arrivals._times, "nothing is remembered either"


async def test_other_methods_are_not_counted():
    upstream = FakeUpstream()
    limiter = configured(RateLimit, rate_limit_per_minute=1)
    for _ in range(3):
        assert (await run_call(make_call(method="resources/read"), upstream, limiter)).error is None
    assert (await run_call(make_call(), upstream, limiter)).error is None
    refused = await run_call(make_call(), upstream, limiter)
    assert refused.error.message.startswith("Rate limit exceeded")
    assert refused.error.data["retryAfterMs"] == 60_000
    assert len(upstream.calls) == 4


def test_memory_is_bounded_and_the_oldest_are_forgotten_first(monkeypatch):
    monkeypatch.setattr(arrivals, "MAX_KEYS", 100)
    limiter = Limiter(rate_limit_per_minute=1)
    for number in range(500):
        limiter.now += 0.001
        limiter.call(principal=f"agent{number}", name="x" * 5000, known=False)
    assert len(limiter.plugin._arrivals._times) == 100
    assert all(len(tool) <= 128 for _, tool in limiter.plugin._arrivals._times)
    assert limiter.call(principal="agent499", name="x" * 5000, known=False) is not None, "the latest are kept"


@pytest.mark.parametrize("settings", [{}, {"limits": [{"tools": ("x*",), "burst": 1}]}])
def test_invented_names_of_tools_buy_no_new_budget(monkeypatch, settings):
    monkeypatch.setattr(arrivals, "MAX_KEYS", 100)
    limiter = Limiter(rate_limit_per_minute=2, **settings)
    assert limiter.passed(5) == 2
    found = sum(limiter.call(name=f"{'xy'[number % 2]}{number}", known=False) is None for number in range(500))
    assert found <= 3, "they share a limit, one for each rule"
    assert limiter.passed(5) == 0
    assert len(limiter.plugin._arrivals._times) <= 3


def test_a_pair_with_much_left_to_wait_is_kept_longer_than_others(monkeypatch):
    monkeypatch.setattr(arrivals, "MAX_KEYS", 10)
    limiter = Limiter(rate_limit_per_minute=2)
    assert limiter.passed(2, principal="busy") == 2
    for number in range(100):
        limiter.call(principal=f"agent{number}")
    assert limiter.passed(2, principal="busy") == 0


def test_pairs_that_used_nothing_up_make_room_before_those_that_did(monkeypatch):
    monkeypatch.setattr(arrivals, "MAX_KEYS", 3)
    limiter = Limiter(rate_limit_per_minute=2, burst=2)
    busy = {"principal": "busy"}
    limiter.passed(2, **busy)
    limiter.call(principal="idle")
    limiter.call(principal="idler")
    limiter.now += 31  # the idle ones' single call is used up; the busy one's second is not
    limiter.call(principal="new")
    assert {agent for agent, _ in limiter.plugin._arrivals._times} == {"busy", "new"}


@pytest.mark.parametrize("settings", [{"rate_limit_per_minute": -1}, {"burst": 0}, {"limit": 3}, {"calls_per_day": -1}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        configured(RateLimit, **settings)
