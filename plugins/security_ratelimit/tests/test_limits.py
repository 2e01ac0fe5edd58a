"""Limits per group, tool and address, and quotas per day."""

import pytest
from gateway_security_ratelimit import limits
from gateway_security_ratelimit.arrivals import MemoryArrivals
from gateway_security_ratelimit.plugin import RateLimit
from msgspec.structs import replace
from pydantic import ValidationError

from gateway_core import Known, Principal, Reject
from gateway_core.testing import FakeUpstream, configured, make_call, run_call, run_hook

DAY = 86_400


class Limiter:
    """A limiter whose clocks are turned by hand; it begins two hours before the end of a UTC day."""

    def __init__(self, **settings):
        self.now = 1000.0
        self.wall = 20_000 * DAY - 7200.0
        self.plugin = RateLimit(RateLimit.Config(**settings), clock=lambda: self.now, wall=lambda: self.wall)

    def call(self, name="echo", **call) -> Reject | None:
        return run_hook(self.plugin, "before_call", make_call(name, **call))

    def passed(self, times, **call):
        return sum(self.call(**call) is None for _ in range(times))


def member(*groups, name="alice", address="192.0.2.1"):
    return Principal(
        f"{name}|keys", verified=True, subject=name, issuer="keys", groups=frozenset(groups), address=address
    )


def claimed(name, address="192.0.2.1"):
    return Principal(f"{name}@{address}", client_name=name, address=address)


# -- overrides -------------------------------------------------------------------------------------------------------


def test_the_first_limit_that_fits_group_and_tool_counts():
    limiter = Limiter(
        rate_limit_per_minute=1,
        limits=[
            {"groups": ["jobs"], "tools": ["search__*", "find"], "rate_limit_per_minute": 5},
            {"groups": ["jobs", "staff"], "rate_limit_per_minute": 3},
            {"tools": ["slow_?"], "rate_limit_per_minute": 2},
        ],
    )
    assert limiter.passed(9, name="search__web", principal=member("jobs")) == 5
    assert limiter.passed(9, name="find", principal=member("jobs")) == 5
    assert limiter.passed(9, name="finder", principal=member("jobs")) == 3
    assert limiter.passed(9, name="search__web", principal=member("staff", "other", name="bob")) == 3
    assert limiter.passed(9, name="slow_1", principal=member(name="carol")) == 2
    assert limiter.passed(9, name="slow_11", principal=member(name="carol")) == 1
    assert limiter.passed(9, name="slow_1", principal=claimed("dave")) == 2


@pytest.mark.parametrize(
    ("glob", "fits", "others"),
    [
        ("a*", ["a", "abc", "a.b"], ["ba", "A"]),
        ("a?c", ["abc", "a.c"], ["ac", "abbc"]),
        ("[ab]*", ["[ab]x"], ["a", "b"]),
        ("a.c", ["a.c"], ["abc"]),
        ("*_x_*", ["a_x_", "_x__x_b"], ["a_x"]),
    ],
)
def test_globs_of_tools(glob, fits, others):
    limiter = Limiter(rate_limit_per_minute=1, limits=[{"tools": ["other", glob], "rate_limit_per_minute": 2}])
    assert {name: limiter.passed(3, name=name) for name in fits} == dict.fromkeys(fits, 2)
    assert {name: limiter.passed(3, name=name) for name in others} == dict.fromkeys(others, 1)


def test_a_name_with_the_letters_of_a_group_is_no_member_of_it():
    limiter = Limiter(rate_limit_per_minute=1, limits=[{"groups": ["staff"], "rate_limit_per_minute": 5}])
    assert limiter.passed(9, principal=claimed("staff")) == 1


def test_a_limit_inherits_what_it_does_not_set():
    limiter = Limiter(
        rate_limit_per_minute=4,
        burst=2,
        limits=[{"tools": ["a"], "calls_per_day": 3}, {"tools": ["b"], "rate_limit_per_minute": 6}],
    )
    assert limiter.passed(9, name="a") == 2, "the general burst"
    limiter.now += 60
    assert limiter.passed(9, name="a") == 1, "its own quota"
    assert limiter.passed(9, name="b") == 6, "the general burst belongs to the general rate"


def left_of(limiter, principal):
    return [(it.what, it.remaining, it.limit, it.per, it.of) for it in limiter.plugin.allowances(principal)]


def test_what_is_left_of_an_agent_is_counted_for_each_tool():
    limiter = Limiter(rate_limit_per_minute=60)
    alice = member()
    for name in ("a", "b", "c"):
        limiter.passed(10, name=name, principal=alice)
    limiter.passed(25, name="a", principal=claimed("other"))
    assert left_of(limiter, alice) == [
        ("a", 50, 60, "minute", "agent"),
        ("b", 50, 60, "minute", "agent"),
        ("c", 50, 60, "minute", "agent"),
        ("each other tool", 60, 60, "minute", "agent"),
    ]
    limiter.now += 60
    assert left_of(limiter, alice) == [("each other tool", 60, 60, "minute", "agent")]


def test_what_is_left_is_what_the_refusal_says():
    limiter = Limiter(
        rate_limit_per_minute=4,
        burst=3,
        calls_per_day=3,
        address={"rate_limit_per_minute": 30},
        limits=[{"tools": ["s_*"], "rate_limit_per_minute": 2, "shared": True}],
    )
    for name in ("echo", "s_one"):
        limiter.passed(9, name=name, principal=claimed("agent"))
        refusal = limiter.call(name=name, principal=claimed("agent"))
        what = "s_*, together" if name == "s_one" else "echo"
        of_tool = [
            {"limit": it.limit, "per": it.per, "of": it.of, "remaining": it.remaining}
            for it in limiter.plugin.allowances(claimed("agent"))
            if (it.of == "agent" and it.what == what) or (it.of == "address" and it.what == name)
        ]
        assert sorted(of_tool, key=str) == sorted(refusal.data["limits"], key=str)
        longest = max(it.wait for it in limiter.plugin.allowances(claimed("agent")) if it.what in {what, name})
        assert longest == pytest.approx(refusal.retry_after, abs=0.1)


def test_what_is_left_names_only_the_limits_of_the_agents_groups():
    limiter = Limiter(
        rate_limit_per_minute=0,
        limits=[
            {"groups": ["staff"], "tools": ["a_*", "b"], "rate_limit_per_minute": 5},
            {"groups": ["jobs"], "calls_per_day": 7},
        ],
    )
    limiter.passed(2, name="b", principal=member("staff"))
    assert left_of(limiter, member("staff")) == [
        ("b", 3, 5, "minute", "agent"),
        ("each a_*, b", 5, 5, "minute", "agent"),
    ]
    assert left_of(limiter, member("jobs")) == [("each other tool", 7, 7, "day", "agent")]
    assert left_of(limiter, member()) == []


def test_tools_that_no_list_shows_are_one_line():
    for settings in ({}, {"limits": [{"tools": ["x"], "rate_limit_per_minute": 1}]}):
        limiter = Limiter(rate_limit_per_minute=60, **settings)
        for name in ("no_1", "no_2"):
            run_hook(limiter.plugin, "before_call", replace(make_call(name, principal=member()), tool=None))
        found = [line for line in left_of(limiter, member()) if "no list" in line[0]]
        assert found == [("all tools that no list shows, together", 58, 60, "minute", "agent")]


def call_unlisted(limiter, name, principal):
    run_hook(limiter.plugin, "before_call", replace(make_call(name, principal=principal), tool=None))


def test_what_is_left_has_no_general_limit_after_one_for_all_tools_of_a_group():
    limiter = Limiter(rate_limit_per_minute=60, limits=[{"groups": ["jobs"], "rate_limit_per_minute": 5}])
    assert left_of(limiter, member("jobs")) == [("each other tool", 5, 5, "minute", "agent")]
    assert left_of(limiter, member()) == [("each other tool", 60, 60, "minute", "agent")]


def test_what_is_left_names_the_tools_without_a_limit_as_exceptions():
    limiter = Limiter(
        rate_limit_per_minute=60,
        address={"calls_per_day": 9},
        limits=[
            {"tools": ["a_*", "b"], "rate_limit_per_minute": 0},
            {"tools": ["*_x"], "rate_limit_per_minute": 5},
            {"tools": ["s_*"], "rate_limit_per_minute": 7, "shared": True},
        ],
    )
    limiter.passed(2, name="a_x", principal=member())
    assert left_of(limiter, member()) == [
        ("each *_x except a_*, b", 5, 5, "minute", "agent"),
        ("s_* except a_*, b, together", 7, 7, "minute", "agent"),
        ("each other tool except a_*, b", 60, 60, "minute", "agent"),
    ]
    assert left_of(limiter, claimed("any"))[-1] == ("each other tool", 9, 9, "day", "address")


def test_what_is_left_omits_limits_of_tools_that_an_earlier_one_takes():
    limiter = Limiter(
        rate_limit_per_minute=60,
        limits=[
            {"groups": ["staff"], "tools": ["git*"], "rate_limit_per_minute": 5},
            {"groups": ["jobs"], "tools": ["git_pull", "git_?"], "rate_limit_per_minute": 7},
            {"groups": ["jobs"], "tools": ["*"], "rate_limit_per_minute": 9},
        ],
    )
    assert [line[:2] for line in left_of(limiter, member("staff", "jobs"))] == [("each git*", 5), ("each *", 9)]
    assert [line[:2] for line in left_of(limiter, member("jobs"))] == [("each git_pull, git_?", 7), ("each *", 9)]


@pytest.mark.parametrize("limits", [[], [{"tools": ["x"], "rate_limit_per_minute": 1}]])
@pytest.mark.parametrize("name", [" evil", " 0", " ", ""])
def test_a_tool_may_have_any_name(name, limits):
    limiter = Limiter(rate_limit_per_minute=60, limits=limits)
    limiter.passed(2, name=name, principal=member())
    call_unlisted(limiter, "no", member())
    assert [line[:2] for line in left_of(limiter, member())][:2] == [
        (name, 58),
        ("all tools that no list shows, together", 59),
    ]


def test_tools_that_no_list_shows_are_one_line_for_each_limit():
    limiter = Limiter(
        rate_limit_per_minute=60,
        address={"rate_limit_per_minute": 90},
        limits=[
            {"groups": ["staff"], "tools": ["x*"], "rate_limit_per_minute": 8},
            {"tools": ["x*"], "rate_limit_per_minute": 9},
        ],
    )
    for name in ("x1", "x2", "no"):
        call_unlisted(limiter, name, claimed("any"))
    assert [(what, left, of) for what, left, _, _, of in left_of(limiter, claimed("any"))[:4]] == [
        ("x* that no list shows, together", 7, "agent"),
        ("all tools that no list shows, together", 59, "agent"),
        ("x* that no list shows, together", 88, "address"),
        ("all tools that no list shows, together", 89, "address"),
    ]
    call_unlisted(limiter, "x1", member())
    assert [line[0] for line in left_of(limiter, member("staff"))] == ["each x*", "each other tool"], "a new group"


def test_what_is_left_reads_each_store_once(monkeypatch):
    read = []
    for store, method in ((MemoryArrivals, "used"), (limits.Counts, "keys")):
        real = getattr(store, method)
        monkeypatch.setattr(store, method, lambda self, *given, real=real: read.append(self) or real(self, *given))
    limiter = Limiter(
        calls_per_day=9,
        address={"rate_limit_per_minute": 5, "calls_per_day": 9},
        limits=[{"tools": [f"t{number}_*"], "rate_limit_per_minute": 2} for number in range(50)],
    )
    assert len(left_of(limiter, claimed("any"))) == 104
    assert len({id(one) for one in read}) == len(read) == 4


def test_zero_in_a_limit_switches_the_general_one_off():
    limiter = Limiter(
        rate_limit_per_minute=1,
        calls_per_day=2,
        limits=[{"groups": ["staff"], "rate_limit_per_minute": 0, "calls_per_day": 0}],
    )
    assert limiter.passed(500, principal=member("staff")) == 500
    assert limiter.passed(500, principal=member()) == 1


def test_a_shared_limit_holds_for_its_tools_together_and_not_for_others():
    limiter = Limiter(
        rate_limit_per_minute=2, limits=[{"tools": ["search__*"], "rate_limit_per_minute": 3, "shared": True}]
    )
    assert limiter.passed(2, name="search__a") == 2
    assert limiter.passed(9, name="search__b") == 1
    assert limiter.passed(9, name="other") == 2
    assert limiter.passed(9, name="search__b", principal="other@127.0.0.1") == 3
    assert "for the tools of one limit, 'search__a' among them" in limiter.call("search__a").message


def test_a_shared_limit_may_be_the_general_one():
    limiter = Limiter(rate_limit_per_minute=3, limits=[{"shared": True}])
    assert limiter.passed(2, name="a") + limiter.passed(9, name="b") == 3


def test_the_remembered_rules_are_bounded(monkeypatch):
    from gateway_security_ratelimit import plugin

    monkeypatch.setattr(plugin, "MAX_MATCHES", 10)
    limiter = Limiter(limits=[{"tools": ["x"], "rate_limit_per_minute": 1}])
    for number in range(50):
        limiter.call(f"tool{number}", known=False)
    assert len(limiter.plugin._matches) == 10
    assert limiter.passed(3, name="x") == 1


# -- quotas ----------------------------------------------------------------------------------------------------------


def test_a_quota_holds_for_a_utc_day_and_says_when_it_ends():
    limiter = Limiter(rate_limit_per_minute=0, calls_per_day=3)
    assert limiter.passed(9) == 3
    refused = limiter.call()
    assert refused.message == "Rate limit exceeded: 3 calls per day for tool 'echo'; try again in 7200 s"
    assert refused.retry_after == 7200
    assert refused.data == {"limits": [{"limit": 3, "per": "day", "of": "agent", "remaining": 0}]}
    limiter.wall += 7199
    assert limiter.call() is not None
    limiter.wall += 1
    assert limiter.passed(9) == 3


def test_a_call_that_the_rate_refuses_costs_no_quota_and_the_other_way_round():
    limiter = Limiter(rate_limit_per_minute=2, calls_per_day=3)
    assert limiter.passed(100) == 2
    refused = limiter.call()
    assert refused.message.startswith("Rate limit exceeded: 2 calls per minute")
    assert [(one["per"], one["remaining"]) for one in refused.data["limits"]] == [("day", 1), ("minute", 0)]
    limiter.now += 60
    assert limiter.passed(100) == 1
    limiter.wall += 7200
    assert limiter.passed(100) == 1, "the calls that the quota refused took nothing of the rate"


def test_counts_are_bounded_and_those_with_many_calls_are_kept(monkeypatch):
    monkeypatch.setattr(limits, "MAX_KEYS", 5)
    limiter = Limiter(rate_limit_per_minute=0, calls_per_day=3)
    limiter.passed(9, principal="busy")
    for number in range(50):
        limiter.call(principal=f"agent{number}")
    assert limiter.call(principal="busy") is not None
    assert len(limiter.plugin._rules[0].checks[0].store._counts) == 5


# -- addresses -------------------------------------------------------------------------------------------------------


def test_a_new_claimed_name_buys_no_new_budget():
    limiter = Limiter(rate_limit_per_minute=2, address={"rate_limit_per_minute": 5, "calls_per_day": 7})
    passed = sum(limiter.passed(9, principal=claimed(f"name{number}")) for number in range(20))
    assert passed == 5
    refused = limiter.call(principal=claimed("another"))
    assert refused.message.startswith("Rate limit exceeded: 5 calls per minute from this address for tool 'echo'")
    assert [(one["of"], one["per"], one["remaining"]) for one in refused.data["limits"]] == [
        ("agent", "minute", 2),
        ("address", "day", 2),
        ("address", "minute", 0),
    ]
    assert limiter.passed(9, principal=claimed("name0", "192.0.2.2")) == 2, "another address"
    assert limiter.passed(9, principal=claimed("name30"), name="other") == 2, "another tool"
    limiter.now += 60
    passed = sum(limiter.passed(9, principal=claimed(f"later{number}")) for number in range(20))
    assert passed == 2, "the quota of the address"


def test_verified_agents_have_no_limit_of_their_address():
    limiter = Limiter(rate_limit_per_minute=2, address={"rate_limit_per_minute": 2})
    for name in ("alice", "bob", "carol"):
        assert limiter.passed(9, principal=member(name=name)) == 2


def test_an_ipv6_customer_is_one_address():
    limiter = Limiter(rate_limit_per_minute=2, address={"rate_limit_per_minute": 3})
    passed = sum(limiter.passed(2, principal=claimed("a", f"2001:db8::{number}")) for number in range(20))
    assert passed == 3
    assert limiter.call(principal=claimed("a", "2001:db8:0:1::1")) is None


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"limits": [{}]},
        {"limits": [{"groups": ["a"]}]},
        {"limits": [{"groups": "a", "rate_limit_per_minute": 1}]},
        {"limits": [{"group": ["a"], "rate_limit_per_minute": 1}]},
        {"limits": [{"rate_limit_per_minute": -1}]},
        {"address": {"burst": 3}},
        {"address": {"burst": 3, "rate_limit_per_minute": 0}},
        {"burst": 3, "rate_limit_per_minute": 0},
        {"limits": [{"burst": 3, "rate_limit_per_minute": 0}]},
        {"limits": [{"burst": 3}], "rate_limit_per_minute": 0},
        {"rate_limit_per_minute": True},
        {"address": {"tools": ["a"]}},
    ],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        configured(RateLimit, **settings)


def test_settings_without_any_limit_remember_nothing():
    limiter = Limiter(rate_limit_per_minute=0, limits=[{"tools": ["a"], "rate_limit_per_minute": 0}])
    assert limiter.passed(50) == 50
    assert not limiter.plugin._arrivals._times


def test_without_new_settings_the_usual_call_takes_the_short_path(monkeypatch):
    limiter = Limiter(rate_limit_per_minute=60)
    monkeypatch.setattr(limiter.plugin, "_judge", None)
    assert limiter.passed(61) == 60


async def test_the_agent_gets_all_limits_of_the_call_as_data():
    limiter = configured(RateLimit, rate_limit_per_minute=1, calls_per_day=9)
    assert (await run_call(make_call(), FakeUpstream(), limiter)).error is None
    refused = (await run_call(make_call(), FakeUpstream(), limiter)).error
    assert refused.data["source"] == "gateway"
    assert 0 < refused.data["retryAfterMs"] <= 60_000
    assert refused.data["limits"] == [
        {"limit": 9, "per": "day", "of": "agent", "remaining": 8},
        {"limit": 1, "per": "minute", "of": "agent", "remaining": 0},
    ]


def test_limits_that_are_probably_mistakes_are_noted():
    plugin = Limiter(
        limits=[
            {"groups": ["dev", "ops"], "tools": ["git*", "push"], "rate_limit_per_minute": 1},
            {"groups": ["dev"], "tools": ["git_*"], "rate_limit_per_minute": 2},
            {"tools": ["git*"], "rate_limit_per_minute": 2},
            {"groups": ["dev"], "rate_limit_per_minute": 2},
            {"groups": ["dev"], "tools": ["serch"], "rate_limit_per_minute": 2},
        ]
    ).plugin
    assert [note.setting for note in plugin.notes(Known(frozenset()))] == ["limits[1]", "limits[4]"]
    known = Known(frozenset(), [make_call(name).tool for name in ("git_pull", "push", "search")])
    found = {note.setting: note.message for note in plugin.notes(known)}
    assert found == {
        "limits[1]": "never applies, because limits[0] comes first and fits all its agents and tools",
        "limits[4]": "never applies, because limits[3] comes first and fits all its agents and tools",
        "limits[4].tools[0]": '"serch" matches no published tool; did you mean "search"?',
    }
