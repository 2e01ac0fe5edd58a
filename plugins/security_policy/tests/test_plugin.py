"""`security_policy`: what rules decide about calls, through the pipeline."""

import dataclasses

import pytest
from gateway_security_policy.plugin import SecurityPolicy
from msgspec.structs import replace
from pydantic import ValidationError

from gateway_core import Pass, Principal, Reject
from gateway_core.testing import FakeUpstream, configured, make_call, run_call, run_hook

ALICE = Principal.proven("alice", issuer="https://id.example", groups=["dev"], scopes=["tools:read"])
READS = {"readOnlyHint": True}


def policy(*rules, **settings):
    return SecurityPolicy(SecurityPolicy.Config(rules=rules, **settings))


def decide(plugin, call):
    """What happens to a call: `allow`, `hide` or the reason of a refusal."""
    verdict = run_hook(plugin, "before_call", call)
    if verdict is None or isinstance(verdict, Pass):
        return "allow"
    return verdict.message if isinstance(verdict, Reject) else "hide"


def allows(rule, call=None, **settings):
    return decide(policy(rule, **settings), call or make_call(principal=ALICE)) == "allow"


# -- the order of the rules -------------------------------------------------------------------------------------------


def test_without_rules_everything_is_allowed_and_costs_nothing():
    assert policy().methods == frozenset()


def test_the_first_rule_that_matches_decides():
    plugin = policy({"tools": ["a*"], "then": "deny", "reason": "not a"}, {"then": "allow"})
    assert decide(plugin, make_call("abc")) == "not a"
    assert decide(plugin, make_call("bcd")) == "allow"


def test_what_no_rule_matches_is_denied():
    assert decide(policy({"tools": ["b"], "then": "allow"}), make_call("a")) == "hide"


async def test_a_denial_without_a_reason_looks_like_a_name_that_does_not_exist():
    upstream = FakeUpstream()
    hidden = (await run_call(make_call("secret"), upstream, configured(SecurityPolicy, rules=[{"then": "deny"}]))).error
    missing = (await run_call(make_call("secret", known=False), upstream)).error
    assert repr(hidden) == repr(missing)
    assert hidden.code == -32602
    assert not upstream.calls


async def test_the_agent_reads_the_reason_of_a_denial():
    rules = [{"then": "deny", "reason": "ask the platform team"}]
    refused = (await run_call(make_call(), FakeUpstream(), configured(SecurityPolicy, rules=rules))).error
    assert (refused.code, refused.message) == (-31003, "ask the platform team")


async def test_an_allowed_call_reaches_its_upstream():
    upstream = FakeUpstream()
    assert (await run_call(make_call(), upstream, configured(SecurityPolicy, rules=[{"then": "allow"}]))).error is None
    assert len(upstream.calls) == 1


# -- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "values", "matches"),
    [
        ("principals", ["alice"], True),
        ("principals", ["al*"], True),
        ("principals", ["alice|https://id.example"], True),
        ("principals", ["bob"], False),
        ("groups", ["ops", "dev"], True),
        ("groups", ["de*"], False),
        ("scopes", ["tools:read"], True),
        ("scopes", ["tools:write"], False),
        ("issuers", ["https://*.example"], True),
        ("issuers", ["https://other.example"], False),
        ("verified", True, True),
        ("verified", False, False),
    ],
)
def test_who_a_rule_concerns(key, values, matches):
    assert allows({key: values, "then": "allow"}) is matches


@pytest.mark.parametrize("name", ["alice", "alice|https://id.example", "al*", "*"])
def test_a_claimed_name_is_no_subject(name):
    call = make_call(principal=Principal(id=f"{name}@127.0.0.1", client_name=name))
    for rule in ({"principals": ["alice*", "alice|*", "*"]}, {"groups": ["dev"]}, {"issuers": ["*"]}):
        assert not allows({**rule, "then": "allow"}, call)


def test_an_exact_id_matches_a_principal_that_is_not_verified():
    rule = {"principals": ["agent@127.0.0.1"], "then": "allow"}
    assert allows(rule, make_call(principal="agent@127.0.0.1"))
    assert not allows({**rule, "verified": True}, make_call(principal="agent@127.0.0.1"))


def test_the_profile_is_a_claim():
    def call(claims):
        return make_call(principal=Principal.proven("alice", issuer="i", claims=claims))

    rule = {"profiles": ["support"], "then": "allow"}
    assert allows(rule, call({"profile": "support"}))
    assert not allows(rule, call({"profile": "dev"}))
    assert not allows(rule, call({"profile": ["support"]}))
    token = Principal.proven("alice", issuer="https://login.example.com", claims={"profile": "support"})
    assert not allows(rule, make_call("t", principal=token)), "people may write this claim themselves"
    assert allows(rule, make_call("t", principal=dataclasses.replace(token, profile="support")))
    assert not allows(rule, call({}))


@pytest.mark.parametrize("when", ["principal.claims.team == 'red'", "tool.name + principal.claims.team == 'echored'"])
def test_principals_with_equal_ids_and_other_claims_are_judged_apart(when):
    plugin = policy({"when": when, "then": "allow"})
    red, blue = (make_call(principal=Principal.proven("a", issuer="i", claims={"team": t})) for t in ("red", "blue"))
    assert red.principal == blue.principal
    assert [decide(plugin, call) for call in (red, blue, red)] == ["allow", "hide", "allow"]


# -- what -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotations", "tier"),
    [
        ({"readOnlyHint": True}, "read"),
        ({"readOnlyHint": True, "destructiveHint": True}, "destructive"),
        ({"readOnlyHint": True, "destructiveHint": False}, "read"),
        ({"readOnlyHint": False, "destructiveHint": False}, "write"),
        ({"destructiveHint": False}, "write"),
        ({"readOnlyHint": False}, "destructive"),
        ({"destructiveHint": True}, "destructive"),
        ({"title": "x"}, "write"),
        ({"readOnlyHint": "yes"}, "write"),
        (None, "write"),
    ],
)
def test_tiers_follow_the_annotations_and_the_setting_for_tools_without(annotations, tier):
    call = make_call(annotations=annotations)
    for one in ("read", "write", "destructive"):
        assert allows({"tiers": [one], "then": "allow"}, call, unannotated="write") is (one == tier)


def test_tools_without_annotations_are_destructive_by_default():
    assert allows({"tiers": ["destructive"], "then": "allow"}, make_call())


def test_a_rule_that_names_tools_is_about_tools_only():
    for rule in ({"tools": ["*"]}, {"tiers": ["read", "write", "destructive"]}):
        assert allows({**rule, "then": "allow"}, make_call())
        for method in ("prompts/get", "resources/read", "resources/subscribe", "completion/complete"):
            assert not allows({**rule, "then": "allow"}, make_call("x://y", method=method))


def test_methods():
    rule = {"methods": ["resources/read"], "then": "allow"}
    assert allows(rule, make_call("file:///x", method="resources/read"))
    assert not allows(rule, make_call("file:///x", method="resources/subscribe"))
    assert not allows(rule, make_call())


@pytest.mark.parametrize("uri", ["file:///public/../secret/b", "file:///public/%2e%2e/secret/b"])
@pytest.mark.parametrize("method", ["resources/read", "resources/subscribe"])
def test_another_way_of_writing_a_uri_is_judged_as_what_it_names(uri, method):
    call = make_call(uri, method=method)
    assert not allows({"resources": ["file:///public/*"], "then": "allow"}, call)
    denied = {"resources": ["file:///secret/*"], "then": "deny", "reason": "secret"}
    assert decide(policy(denied, {"then": "allow"}), call) == "secret"


def test_every_upstream_that_may_get_the_call_must_be_allowed():
    plugin = policy({"upstreams": ["a"], "then": "allow"})
    assert decide(plugin, make_call(upstreams=("a",))) == "allow"
    assert decide(plugin, make_call(upstreams=("a", "b"))) == "hide"
    both = policy({"upstreams": ["a"], "then": "allow"}, {"upstreams": ["b"], "then": "deny", "reason": "not b"})
    assert decide(both, make_call(upstreams=("a", "b"))) == "not b"
    assert decide(both, make_call(upstreams=("b", "a"))) == "not b"


def test_a_prefix_does_not_get_around_a_denial_and_gives_no_permission():
    call = make_call("b__delete_all", upstreams=("b",), original_name="delete_all")
    assert decide(policy({"tools": ["delete_*"], "then": "deny"}, {"then": "allow"}), call) == "hide"
    assert decide(policy({"tools": ["delete_*"], "then": "allow"}), call) == "hide"
    assert decide(policy({"tools": ["b__delete_*"], "then": "allow"}), call) == "allow"


def test_an_explicit_name_is_judged_as_its_published_one():
    call = replace(make_call("search", upstreams=("a",)), name="a:search")
    assert decide(policy({"tools": ["search"], "then": "allow"}), call) == "allow"
    assert decide(policy({"tools": ["search"], "then": "deny"}, {"then": "allow"}), call) == "hide"


def test_a_tool_that_no_list_shows_is_denied():
    hidden = replace(make_call("a:backdoor", upstreams=("a",)), tool=None)
    assert decide(policy({"then": "allow"}), hidden) == "hide"


def test_names_that_no_upstream_serves_are_denied():
    for method in ("tools/call", "prompts/get", "resources/read", "tasks/get"):
        assert decide(policy({"then": "allow"}), make_call("x", method=method, known=False)) == "hide"


def test_a_task_follows_the_tool_that_created_it():
    tool = make_call("job", annotations=READS).tool
    task = replace(make_call("id", method="tasks/get"), tool=tool)
    assert decide(policy({"tools": ["job"], "then": "allow"}), task) == "allow"
    assert decide(policy({"tools": ["job"], "when": "arguments.n == 1", "then": "allow"}), task) == "allow"
    assert decide(policy({"tools": ["other"], "then": "allow"}), task) == "hide"
    denied = policy({"tools": ["job"], "then": "deny", "reason": "no jobs"}, {"then": "allow"})
    assert decide(denied, task) == "no jobs"


# -- what is remembered ------------------------------------------------------------------------------------------------


def test_a_tool_that_changed_is_judged_again():
    plugin = policy({"tiers": ["read"], "then": "allow"})
    assert decide(plugin, make_call(principal=ALICE, annotations=READS)) == "allow"
    assert decide(plugin, make_call(principal=ALICE, annotations={"readOnlyHint": False})) == "hide"


def test_a_resource_that_moved_is_judged_again():
    plugin = policy({"upstreams": ["a"], "then": "allow"})
    calls = [make_call("x://y", method="resources/read", principal=ALICE, upstreams=(up,)) for up in ("a", "b", "a")]
    assert [decide(plugin, call) for call in calls] == ["allow", "hide", "allow"]


def test_rules_are_tried_once_for_each_principal_and_tool():
    plugin = policy(*({"tools": [f"t{n}"], "then": "allow"} for n in range(50)), {"then": "allow"})
    call = make_call(principal=ALICE)
    run_hook(plugin, "before_call", call)
    tried = []
    for rule in plugin.policy.rules:
        rule.covers = tried.append
    for _ in range(10):
        assert run_hook(plugin, "before_call", call) == Pass("rule 51")
    assert tried == []


def test_an_expression_about_the_principal_alone_is_evaluated_once_for_each():
    plugin = policy({"when": "principal.id.startsWith('agent')", "then": "allow"}, {"then": "deny", "reason": "no"})
    for n in range(20):
        assert decide(plugin, make_call(f"t{n}", principal=f"agent{n}@127.0.0.1")) == "allow"
        assert decide(plugin, make_call(f"t{n}", principal=f"other{n}@127.0.0.1")) == "no"
    assert len(plugin.policy._views) == 2, "all agents share what is remembered, and so do all others"


def test_what_is_remembered_is_bounded(monkeypatch):
    from gateway_security_policy import policy as module

    monkeypatch.setattr(module, "MAX_PRINCIPALS", 10)
    monkeypatch.setattr(module, "MAX_VIEWS", 5)
    monkeypatch.setattr(module, "MAX_NAMES", 20)
    plugin = policy({"when": "principal.id != tool.name", "then": "allow"})
    for n in range(50):
        for m in range(30):
            assert decide(plugin, make_call(f"t{m}", principal=f"agent{n}@127.0.0.1")) == "allow"
    assert len(plugin.policy._principals) == 10
    assert len(plugin.policy._views) == 5
    assert all(len(view.known) <= 20 for view in plugin.policy._views.values())


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "then"),
        ({"then": "maybe"}, "allow"),
        ({"then": "allow", "reason": "x"}, "has no reason"),
        ({"then": "allow", "tools": []}, "at least 1"),
        ({"then": "allow", "groups": "dev"}, "tuple"),
        ({"then": "allow", "tiers": ["reads"]}, "read"),
        ({"then": "allow", "methods": ["tools/list"]}, "tools/call"),
        ({"then": "allow", "when": "arguments."}, "is not valid CEL"),
        ({"then": "allow", "when": "argument.x"}, "undeclared reference to 'argument.x'"),
        ({"then": "allow", "when": "1 + 1"}, "must be true or false, and is of the type int"),
        ({"then": "allow", "when": "true" + " " * 2000}, "2000"),
    ],
)
def test_wrong_rules_are_refused(rule, message):
    with pytest.raises(ValidationError, match=message):
        configured(SecurityPolicy, rules=[rule])


def test_the_verdict_names_the_rule_for_observers():
    rules = [{"name": "closed", "tools": ["a"], "then": "deny"}, {"tools": ["b"], "then": "deny", "reason": "no"}]
    plugin = policy(*rules, {"name": "staff", "groups": ["dev"], "then": "allow"})
    verdicts = {name: run_hook(plugin, "before_call", make_call(name, principal=ALICE)) for name in "abc"}
    assert {name: verdict.rule for name, verdict in verdicts.items()} == {"a": "closed", "b": "rule 2", "c": "staff"}
    assert verdicts["c"] == run_hook(plugin, "before_call", make_call("c", principal=ALICE)) == Pass("staff")
    assert run_hook(plugin, "before_call", make_call("c")).rule == "no rule matches"
    reporting = policy(*rules, mode="report")
    assert run_hook(reporting, "before_call", make_call("a")) == Pass("closed (only reported)")
