"""What `access` says is what happens: random policies, principals, tools and arguments through the pipeline."""

import asyncio

import pytest
from gateway_security_policy.access import deciding, decision, explain
from gateway_security_policy.plugin import SecurityPolicy
from gateway_security_policy.rules import Match
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway_core import Answer, CallResult, Principal, Published
from gateway_core.testing import FakeUpstream, FakeUser, configured, make_call, run_call

NAMES = st.sampled_from(["search", "delete_all", "b__search", "job"])
PEOPLE = st.sampled_from(["alice", "bob", "ci-1", ""])
GROUPS = st.lists(st.sampled_from(["dev", "ops"]), max_size=2)
WHEN = [
    "arguments.n > 1",
    "arguments.n > 1 || principal.verified",
    'principal.subject.startsWith("a")',
    'principal.claims.team == "red"',
    'tool.name == "search" && tool.upstream != "b"',
    'tool.tier == "read"',
    "tool.annotations.readOnlyHint",
    "arguments.list.exists(x, x == 1)",
    "principal.claims.missing",
    "has(arguments.n) && !has(arguments.list)",
    "false",
]


def some(*values):
    return st.none() | st.lists(st.sampled_from(values), min_size=1, max_size=2).map(tuple)


RULES = st.lists(
    st.fixed_dictionaries(
        {
            "principals": some("alice", "b*", "ci-?", "*", "agent@127.0.0.1", "alice|i"),
            "groups": some("dev", "ops"),
            "scopes": some("s"),
            "issuers": some("i", "j*"),
            "profiles": some("support"),
            "verified": st.sampled_from([None, None, True, False]),
            "upstreams": some("a", "b", "?"),
            "tools": some("search", "delete_*", "*search", "job", "b__*"),
            "tiers": some("read", "write", "destructive"),
            "prompts": st.sampled_from([None, None, None, ("x",)]),
            "methods": some("tools/call", "prompts/get"),
            "when": st.sampled_from([None, *WHEN]),
            "then": st.sampled_from(["allow", "allow", "deny", "ask"]),
        }
    ).flatmap(
        # Most keys are left out, so that rules match often enough.
        lambda rule: st.sets(st.sampled_from(sorted(rule)), max_size=2).map(
            lambda kept: {key: value for key, value in rule.items() if key in kept | {"when", "then"}}
        )
    ),
    min_size=1,
    max_size=8,
)
PRINCIPALS = st.one_of(
    st.builds(
        lambda subject, groups, scopes, issuer, claims: Principal.proven(
            subject, groups=groups, scopes=scopes, issuer=issuer, claims=claims
        ),
        PEOPLE,
        GROUPS,
        st.lists(st.just("s"), max_size=1),
        st.sampled_from(["i", "j1"]),
        st.sampled_from([{}, {"team": "red"}, {"profile": "support"}]),
    ),
    st.builds(lambda name: Principal(f"{name}@127.0.0.1"), st.sampled_from(["agent", "alice", "alice|i"])),
)
HINTS = st.none() | st.dictionaries(
    st.sampled_from(["readOnlyHint", "destructiveHint"]), st.sampled_from([True, False, "yes"])
)
ARGUMENTS = st.none() | st.fixed_dictionaries(
    {},
    optional={"n": st.sampled_from([0, 2, "x", None]), "list": st.sampled_from([[], [1], [0, "a"], 5])},
)


@pytest.mark.timeout(300)
@settings(max_examples=500, deadline=None)
@given(RULES, PRINCIPALS, NAMES, st.sampled_from([("a",), ("b",), ("a", "b")]), HINTS, ARGUMENTS, st.booleans())
def test_access_agrees_with_what_happens(rules, principal, name, upstreams, hints, arguments, explicit):
    plugin = configured(SecurityPolicy, rules=rules)
    policy = plugin.instance.policy
    call = make_call(
        name,
        arguments,
        principal=principal,
        annotations=hints,
        upstreams=upstreams,
        original_name=name.removeprefix("b__"),
    )
    if explicit:
        call = replace(call, name=f"{upstreams[0]}:{call.original_name}")
    subjects = list(policy.subjects(call))

    said = [explain(policy.rules, principal, subject, call.arguments) for subject in subjects]
    before = [explain(policy.rules, principal, subject, None) for subject in subjects]
    upstream = FakeUpstream()
    listed = [Published(call.tool.name, call.tool.original_name, upstreams)]
    page = FakeUpstream(CallResult.of({"tools": [dict(call.tool.definition)]}))
    asked = make_call("", method="tools/list", principal=principal, listed=listed)

    async def outcome():
        user = FakeUser(Answer("accept"))
        return (await run_call(call, upstream, plugin, user=user)).error, len(user.asked)

    async def happens():
        error, questions = await outcome()
        again, more = await outcome()
        assert (repr(error), questions) == (repr(again), more), "what is remembered changes nothing"
        unasked = (await run_call(call, FakeUpstream(), plugin)).error
        return error, questions, unasked, (await run_call(asked, page, plugin)).content["tools"]

    error, questions, unasked, shown = asyncio.run(happens())
    event(f"{decision(said)}, known before the call: {decision(before)}")
    assert decision(said) == ("deny" if error is not None else "ask" if questions else "allow")
    assert (unasked is None) == (decision(said) == "allow"), "an agent that cannot be asked is refused"
    assert bool(upstream.calls) == (error is None)
    assert decision(before) in {decision(said), "depends"}
    verdict = deciding(said)
    assert verdict is not None
    assert verdict.effect == decision(said)
    assert all(step.match is not Match.OPEN for one in said for step in one.steps)
    if not explicit:
        assert bool(shown) == (decision(before) != "deny"), "what is listed is what may be called"


def test_an_explanation_says_why_each_rule_does_not_match():
    plugin = configured(
        SecurityPolicy,
        rules=[
            {"groups": ["ops"], "then": "allow"},
            {"upstreams": ["b"], "then": "allow"},
            {"tools": ["other"], "then": "allow"},
            {"tiers": ["read"], "then": "allow"},
            {"prompts": ["x"], "then": "allow"},
            {"methods": ["prompts/get"], "then": "allow"},
            {"when": "arguments.n > 1", "then": "deny"},
            {"when": "principal.claims.absent", "then": "allow"},
            {"groups": ["ops"], "then": "ask"},
            {"when": "false", "then": "allow"},
            {"then": "allow"},
            {"then": "deny"},
        ],
    )
    rules = plugin.instance.policy.rules
    (subject,) = plugin.instance.policy.subjects(make_call("t", upstreams=("a",)))
    found = explain(rules, Principal("x"), subject, None)
    assert [(step.match.name, step.why) for step in found.steps] == [
        ("NO", "groups"),
        ("NO", "upstreams"),
        ("NO", "tools"),
        ("NO", "tiers"),
        ("NO", "it is not about a tool"),
        ("NO", "methods"),
        ("OPEN", "when"),
        ("FAILED", "when"),
        ("NO", "groups"),
        ("NO", "when"),
        ("YES", ""),
    ]
    assert found.decision == "depends"
    assert decision([found]) == "depends"
    assert deciding([found]) is None
    assert explain(rules, Principal("x"), subject, {"n": 2}).outcomes[-1].rule.number == 7
    assert explain(rules, Principal("x"), subject, {"n": "x"}).decision == "deny"
