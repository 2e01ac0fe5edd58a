"""`then = "ask"`: a person decides about the calls that a rule matches."""

import pytest
from gateway_security_policy.plugin import SecurityPolicy
from msgspec.structs import replace
from pydantic import ValidationError

from gateway_core import Answer, Approvals, Ask, Call, CallResult, Pass, Published, Reject, hookimpl
from gateway_core.testing import FakeUpstream, FakeUser, configured, make_call, run_call, run_hook

YES, NO = Answer("accept"), Answer("decline")
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])


def policy(*rules, **settings):
    return configured(SecurityPolicy, rules=rules, **settings)


def verdict(plugin, *arguments, **call):
    return run_hook(plugin.instance, "before_call", make_call(*arguments, **call))


@ERAS
async def test_a_person_decides_about_a_call(era):
    plugin = policy({"tools": ["wipe"], "then": "ask", "reason": "disks are shared"}, {"then": "allow"})
    user, upstream = FakeUser(YES, NO), FakeUpstream()
    call = make_call("wipe", {"disk": 1, "token": "hunter22"}, era=era)
    assert (await run_call(call, upstream, plugin, user=user)).error is None
    declined = (await run_call(call, upstream, plugin, user=user)).error
    assert (declined.code, declined.message[:42]) == (-31003, "wipe was not called: the user declined it.")
    assert (await run_call(make_call("look", era=era), upstream, plugin, user=user)).error is None
    assert [it.name for it in upstream.calls] == ["wipe", "look"]
    assert len(user.asked) == 2
    assert user.asked[0]["message"].splitlines()[2:] == [
        "Reason: disks are shared",
        "Server: upstream",
        "Tool: wipe",
        "Effect: unknown; its server does not say",
        "Arguments:",
        "  disk: 1",
        '  token: "[REDACTED]"',
    ]


def test_plugins_that_observe_read_the_rule_that_asked():
    plugin = policy({"name": "careful", "then": "ask"})
    assert verdict(plugin, answers={"approval": YES}) == Pass("careful")
    assert verdict(plugin, answers={"approval": NO}).rule == "careful"


@pytest.mark.parametrize(("era", "code"), [("legacy", -31003), ("modern", -32021)])
async def test_an_agent_that_cannot_be_asked_is_refused_and_reads_what_is_missing(era, code):
    upstream = FakeUpstream()
    refused = (await run_call(make_call(era=era), upstream, policy({"then": "ask"}))).error
    assert refused.code == code
    assert refused.data["requiredCapabilities"] == {"elicitation": {"form": {}}}
    assert "elicitation" in refused.message
    assert not upstream.calls


@ERAS
@pytest.mark.parametrize(("method", "name"), [("prompts/get", "greet"), ("resources/read", "file:///x")])
async def test_prompts_and_resources_are_asked_about_too(era, method, name):
    user, upstream = FakeUser(YES), FakeUpstream()
    result = await run_call(make_call(name, method=method, era=era), upstream, policy({"then": "ask"}), user=user)
    assert result.error is None
    assert len(user.asked) == len(upstream.calls) == 1


async def test_a_subscription_to_a_resource_that_needs_a_person_is_refused():
    call = make_call("file:///x", method="resources/subscribe", era="legacy")
    refused = (await run_call(call, FakeUpstream(), policy({"then": "ask"}), user=FakeUser())).error
    assert "clients cannot be asked about resources/subscribe" in refused.message


def test_completions_and_tasks_need_no_person():
    plugin = policy({"then": "ask"})
    assert verdict(plugin, "greet", method="completion/complete") is None
    task = replace(make_call("id", method="tasks/get"), tool=make_call("job").tool)
    assert run_hook(plugin.instance, "before_call", task) is None


async def test_a_tool_that_needs_a_person_is_listed():
    listed = [Published("wipe", "wipe", ("upstream",)), Published("other", "other", ("upstream",))]
    page = FakeUpstream(CallResult.of({"tools": [{"name": "wipe"}, {"name": "other"}]}))
    plugin = policy({"tools": ["wipe"], "then": "ask"})
    shown = await run_call(make_call("", method="tools/list", listed=listed), page, plugin)
    assert [tool["name"] for tool in shown.content["tools"]] == ["wipe"]


# -- on a page ---------------------------------------------------------------------------------------------------------


def test_a_rule_asks_on_a_page_and_names_the_approvers():
    asked = verdict(policy({"then": "ask", "answer": "page", "approvers": ["leads"]}))
    assert (asked.on_page, tuple(asked.approvers)) == (True, ("leads",))
    own = verdict(policy({"then": "ask", "answer": "page"}))
    assert (own.on_page, tuple(own.approvers)) == (True, ())
    assert not verdict(policy({"then": "ask", "answer": "client"})).on_page


def test_an_approval_in_the_client_is_not_enough_for_a_rule_with_a_page():
    page = policy({"then": "ask", "answer": "page"})
    question = verdict(page)
    assert isinstance(verdict(page, answers={"approval": YES}), Ask)
    assert verdict(page, answers={question.name: YES}) == Pass("rule 1")


@pytest.mark.parametrize("upstreams", [("a", "b"), ("b", "a")])
def test_of_rules_for_several_upstreams_the_one_with_a_page_asks(upstreams):
    plugin = policy(
        {"upstreams": ["a"], "then": "ask", "answer": "page", "remember": "session"},
        {"upstreams": ["b"], "then": "ask"},
    )
    assert verdict(plugin, upstreams=upstreams).on_page


# -- what is remembered -----------------------------------------------------------------------------------------------


async def test_an_approval_is_remembered_for_the_calls_of_its_rule_alone():
    small = {"when": "arguments.n < 10", "then": "ask", "remember": 600}
    plugin = policy(small, {"then": "ask"})
    user = FakeUser(YES, YES, YES)
    for n in (1, 2, 20, 30):
        assert (await run_call(make_call("pay", {"n": n}), FakeUpstream(), plugin, user=user)).error is None
    assert ["pass for 600 seconds" in asked["message"] for asked in user.asked] == [True, False, False]


@pytest.mark.parametrize("upstreams", [("a", "b", "c"), ("c", "b", "a")])
def test_of_rules_for_several_upstreams_the_one_that_remembers_least_asks(upstreams):
    plugin = policy(
        {"upstreams": ["a"], "then": "ask", "reason": "A", "remember": "session"},
        {"upstreams": ["b"], "then": "ask", "reason": "B"},
        {"upstreams": ["c"], "then": "ask", "reason": "C", "remember": 600},
    )
    assert "Reason: B" in verdict(plugin, upstreams=upstreams).message
    assert "Reason: C" in verdict(plugin, upstreams=("a", "c")).message
    assert isinstance(verdict(plugin, upstreams=("a", "other")), CallResult), "a denial is stricter"


# -- expressions without a value --------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["arguments.amount > 100", "tool.annotations.absent", "principal.claims.absent"])
def test_a_rule_that_cannot_be_evaluated_asks_unless_the_call_is_denied(when):
    asks = {"when": when, "then": "ask"}
    assert isinstance(verdict(policy(asks, {"then": "allow"}), arguments={"amount": "x"}), Ask)
    denied = verdict(policy(asks, {"then": "deny", "reason": "no"}), arguments={"amount": "x"})
    assert denied == Reject("no", rule="rule 2")
    assert isinstance(verdict(policy(asks), arguments={"amount": "x"}), CallResult)


# -- beside other plugins ---------------------------------------------------------------------------------------------


class Approves:
    """Another plugin that asks about every call."""

    def __init__(self):
        self.approvals = Approvals()

    @hookimpl
    def before_call(self, call: Call) -> Ask | Reject | None:
        return self.approvals.verdict(call)


@ERAS
@pytest.mark.parametrize("first", [True, False])
async def test_a_person_is_asked_once_about_a_call_that_two_plugins_ask_about(era, first):
    plugins = [policy({"then": "ask"}), Approves()]
    user, upstream = FakeUser(YES), FakeUpstream()
    order = plugins if first else plugins[::-1]
    assert (await run_call(make_call("wipe", {"a": 1}, era=era), upstream, *order, user=user)).error is None
    assert len(user.asked) == len(upstream.calls) == 1


# -- settings ---------------------------------------------------------------------------------------------------------


def test_more_names_of_secrets():
    question = verdict(policy({"then": "ask"}, patterns=["^internal_"]), arguments={"internal_name": "hunter22"})
    assert "hunter22" not in question.message


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"then": "allow", "remember": 60}, "remembers approvals"),
        ({"then": "deny", "remember": "session"}, "remembers approvals"),
        ({"then": "deny", "answer": "page"}, "has an answer; remove answer"),
        ({"then": "ask", "approvers": ["leads"]}, "approvers has no effect"),
        ({"then": "ask", "answer": "client", "approvers": ["leads"]}, "approvers has no effect"),
        ({"then": "ask", "remember": 0}, "greater than 0"),
        ({"then": "ask", "remember": 86_401}, "86400"),
        ({"then": "ask", "remember": "always"}, "session"),
    ],
)
def test_wrong_rules_are_refused(rule, message):
    with pytest.raises(ValidationError, match=message):
        policy(rule)


def test_a_wrong_pattern_is_refused():
    with pytest.raises(ValidationError, match="RE2"):
        policy({"then": "ask"}, patterns=["("])
