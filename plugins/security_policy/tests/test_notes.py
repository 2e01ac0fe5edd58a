"""Notes on rules that are probably mistakes."""

import pytest
from gateway_security_policy.notes import precludes
from gateway_security_policy.plugin import SecurityPolicy
from gateway_security_policy.rules import Match, Rule, Subject, facts_of
from gateway_security_policy.settings import RuleConfig
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gateway_core import Known, Note, Principal
from gateway_core.testing import make_call


def noted(*rules, tools=None, upstreams=("github", "files")):
    plugin = SecurityPolicy(SecurityPolicy.Config(rules=rules))
    return [(note.setting, note.message) for note in plugin.notes(Known(frozenset(upstreams), tools))]


def tool(name, upstream="github", original=None):
    return make_call(name, upstreams=(upstream,), original_name=original).tool


def test_an_upstream_that_the_file_does_not_have_is_noted():
    assert noted({"upstreams": ["files", "githb"], "then": "allow"}, {"upstreams": ["git*"], "then": "deny"}) == [
        ("rules[0].upstreams[1]", '"githb" matches no upstream of this file; did you mean "github"?')
    ]


def test_a_tool_that_does_not_exist_is_noted_once_the_tools_are_known():
    rules = [{"tools": ["serch", "push"], "then": "allow"}, {"tools": ["own"], "then": "deny"}]
    assert noted(*rules) == []
    assert noted(*rules, tools=[tool("search"), tool("push"), tool("x__own", original="own")]) == [
        ("rules[0].tools[0]", '"serch" matches no published tool; did you mean "search"?')
    ]
    assert noted({"tools": ["own"], "then": "allow"}, tools=[tool("x__own", original="own")]) == [
        ("rules[0].tools[0]", '"own" matches no published tool; did you mean "x__own"?')
    ]


def test_a_group_in_which_no_agent_is_is_noted_if_the_groups_are_known():
    plugin = SecurityPolicy(SecurityPolicy.Config(rules=[{"groups": ["dev", "oops"], "then": "allow"}]))
    assert list(plugin.notes(Known(frozenset()))) == []
    (note,) = plugin.notes(Known(frozenset(), groups=frozenset({"dev", "ops"})))
    assert note == Note('no agent is in the group "oops"; did you mean "ops"?', "rules[0].groups[1]")


def test_a_profile_that_the_file_does_not_have_is_noted():
    plugin = SecurityPolicy(SecurityPolicy.Config(rules=[{"profiles": ["support", "suport"], "then": "allow"}]))
    assert list(plugin.notes(Known(frozenset()))) == []
    (note,) = plugin.notes(Known(frozenset(), profiles=frozenset({"support"})))
    assert note.setting == "rules[0].profiles[1]"


def test_a_tool_of_another_upstream_is_no_tool_of_the_rule():
    rule = {"upstreams": ["files"], "tools": ["search"], "then": "allow"}
    assert noted(rule, tools=[tool("search", "github")]) == [
        ("rules[0].tools[0]", '"search" matches no published tool')
    ]


def test_a_rule_that_never_applies_is_noted_with_the_rule_before_it():
    rules = [
        {"groups": ["dev"], "then": "allow"},
        {"name": "everything", "then": "deny"},
        {"groups": ["ops"], "then": "allow"},
    ]
    message = "never applies, because everything comes first and matches whatever this rule matches"
    assert noted(*rules) == [("rules[2]", message)]


@pytest.mark.parametrize(
    ("first", "later", "does"),
    [
        ({"then": "deny"}, {"tools": ["a"], "then": "allow"}, True),
        ({"tools": ["a*"], "then": "deny"}, {"tools": ["ab", "ac*"], "then": "allow"}, True),
        ({"tools": ["a*"], "then": "deny"}, {"tools": ["ab", "b"], "then": "allow"}, False),
        ({"tools": ["a*"], "then": "deny"}, {"then": "allow"}, False),
        ({"tools": ["*"], "then": "deny"}, {"tiers": ["read"], "then": "allow"}, True),
        ({"tools": ["a"], "then": "allow"}, {"tools": ["a"], "then": "deny"}, False),
        ({"tools": ["*"], "then": "allow"}, {"tools": ["a"], "then": "ask"}, True),
        ({"tiers": ["read", "write", "destructive"], "then": "allow"}, {"tools": ["a"], "then": "deny"}, True),
        ({"tiers": ["read", "write"], "then": "deny"}, {"tiers": ["write"], "then": "allow"}, True),
        ({"groups": ["a", "b"], "then": "deny"}, {"groups": ["b"], "then": "allow"}, True),
        ({"groups": ["a"], "then": "deny"}, {"groups": ["a", "b"], "then": "allow"}, False),
        ({"groups": ["a"], "then": "deny"}, {"groups": ["a"], "scopes": ["s"], "then": "allow"}, True),
        ({"principals": ["*"], "then": "deny"}, {"principals": ["agent@127.0.0.1"], "then": "allow"}, False),
        ({"when": "arguments.n > 1", "then": "deny"}, {"tools": ["a"], "then": "allow"}, False),
        ({"when": "arguments.n > 1", "then": "deny"}, {"when": "arguments.n > 1", "then": "deny"}, True),
        ({"when": "arguments.n > 1", "then": "allow"}, {"when": "arguments.n > 1", "then": "deny"}, False),
        ({"resources": ["file:///*"], "then": "allow"}, {"resources": ["file:///*"], "then": "deny"}, False),
        ({"resources": ["file:///*"], "then": "deny"}, {"resources": ["file:///*"], "then": "allow"}, True),
        ({"methods": ["tools/call"], "then": "deny"}, {"tools": ["a"], "then": "allow"}, False),
        ({"verified": True, "then": "deny"}, {"verified": True, "then": "allow"}, True),
    ],
)
def test_which_rule_precludes_another(first, later, does):
    assert bool(noted(first, later)) is does


def some(*values):
    return st.none() | st.lists(st.sampled_from(values), min_size=1, max_size=2)


RULE = st.fixed_dictionaries(
    {"then": st.sampled_from(["allow", "deny", "ask"])},
    optional={
        "principals": some("alice", "a*", "*", "agent@1"),
        "groups": some("dev", "ops"),
        "verified": st.booleans(),
        "issuers": some("i", "*"),
        "upstreams": some("a", "b", "?"),
        "tools": some("search", "s*", "*", "b__search"),
        "prompts": some("x", "*"),
        "resources": some("file:///a", "file:///*", "*"),
        "tiers": some("read", "write", "destructive"),
        "methods": some("tools/call", "resources/read"),
    },
)
PRINCIPALS = st.sampled_from(
    [
        Principal("agent@1"),
        Principal.proven("alice", issuer="i", groups=["dev"]),
        Principal.proven("bob", issuer="j", groups=["dev", "ops"]),
    ]
)
SUBJECTS = st.builds(
    lambda what, upstream, tier: Subject(*what, upstream, tier),
    st.sampled_from(
        [
            ("tools/call", "tool", "search", "search"),
            ("tools/call", "tool", "b__search", "search"),
            ("prompts/get", "prompt", "x", "x"),
            ("resources/read", "resource", "file:///a", "file:///a"),
            ("resources/read", "resource", "file:///b/../a", "file:///b/../a"),
            ("resources/read", "template", "file:///{p}", "file:///{p}"),
        ]
    ),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["read", "write", "destructive"]),
)


@settings(max_examples=1000, deadline=None)
@given(RULE, RULE, st.booleans(), st.lists(st.tuples(PRINCIPALS, SUBJECTS), min_size=1, max_size=10))
def test_a_rule_that_is_precluded_matches_nothing_that_the_first_one_does_not_match(first, later, narrows, cases):
    later = {**first, **later} if narrows else later
    rules = [Rule(number, RuleConfig.model_validate(rule)) for number, rule in enumerate((first, later), 1)]
    found = precludes(*rules)
    event(f"precluded: {found}")
    if not found:
        return
    for principal, subject in cases:

        def match(rule, principal=principal, subject=subject):
            if rule.concerns(principal) or rule.holds(facts_of(principal), subject, {}) is not Match.YES:
                return Match.NO
            return rule.covers(subject)[0]

        second = match(rules[1])
        assert match(rules[0]) is second or second is Match.NO or match(rules[0]) is Match.YES
