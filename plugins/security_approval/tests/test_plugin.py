"""`security_approval`: which calls need a person, what is remembered, and what a call without an approval gets."""

import pytest
from gateway_security_approval.plugin import Approval
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ValidationError

from gateway_core import Answer, Approvals, Ask, CallResult, Known, Principal, Reject
from gateway_core.testing import FakeUpstream, FakeUser, configured, make_call, run_call, run_hook

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
READ = {"readOnlyHint": True}
WRITE = {"readOnlyHint": False, "destructiveHint": False}
DESTROY = {"destructiveHint": True}
YES, NO, AWAY = Answer("accept"), Answer("decline"), Answer("cancel")


class Person:
    """The plugin, with a clock that is turned by hand."""

    def __init__(self, **settings):
        self.now = 1000.0
        self.plugin = Approval(Approval.Config(**settings), clock=lambda: self.now)

    def verdict(self, name="wipe", arguments=None, answer=None, **call):
        answers = None if answer is None else {"approval": answer}
        return run_hook(self.plugin, "before_call", make_call(name, arguments, answers=answers, **call))

    def asks(self, name="wipe", **call):
        verdict = self.verdict(name, **call)
        assert verdict is None or isinstance(verdict, Ask)
        return verdict is not None


@pytest.mark.parametrize(
    ("annotations", "tier"),
    [
        (READ, "read"),
        ({"readOnlyHint": True, "destructiveHint": False}, "read"),
        ({"readOnlyHint": True, "destructiveHint": True}, "destructive"),
        (WRITE, "write"),
        ({"destructiveHint": False}, "write"),
        ({"readOnlyHint": False}, "destructive"),
        (DESTROY, "destructive"),
    ],
)
def test_annotations_put_a_tool_in_a_tier(annotations, tier):
    for asked in ("read", "write", "destructive"):
        assert Person(tiers=(asked,)).asks(annotations=annotations) is (asked == tier)


@pytest.mark.parametrize("annotations", [None, {}, {"title": "x"}, {"readOnlyHint": "yes"}, {"idempotentHint": True}])
def test_a_tool_without_hints_is_in_the_tier_that_the_file_says(annotations):
    assert Person().asks(annotations=annotations)
    assert not Person(unannotated="write").asks(annotations=annotations)
    assert Person(unannotated="read", tiers=("read",)).asks(annotations=annotations)


def test_tiers_apply_to_the_named_upstreams():
    person = Person(upstreams=("pay*", "b?nk"))
    assert person.asks(upstreams=("payments",))
    assert person.asks(upstreams=("bank",))
    assert not person.asks(upstreams=("notes",))
    assert not person.asks(upstreams=("Payments",))
    assert person.asks(upstreams=("notes", "bank")), "any of its upstreams may get the call"


def test_always_wins_over_never_and_never_over_tiers():
    person = Person(never=("note*", "scratch:*", "drop_all"), always=("drop*", "bank:look"))
    assert not person.asks("notes")
    assert not person.asks("wipe", upstreams=("scratch",))
    assert person.asks("wipe", upstreams=("other",))
    assert person.asks("drop_all", annotations=READ)
    assert person.asks("look", annotations=READ, upstreams=("bank",))
    assert not person.asks("look", annotations=READ, upstreams=("other",))


def test_never_exempts_a_tool_of_several_servers_only_if_it_exempts_all_of_them():
    person = Person(never=("scratch:*",))
    assert not person.asks("wipe", upstreams=("scratch",))
    assert person.asks("wipe", upstreams=("scratch", "production"))


@pytest.mark.parametrize("settings", [{}, {"always": ("*",)}, {"always": ("files:*",), "tiers": ()}])
def test_a_tool_that_its_server_does_not_list_needs_a_person(settings):
    call = replace(make_call("files:delete_all", upstreams=("files",)), tool=None)
    verdict = run_hook(Approval(Approval.Config(**settings)), "before_call", call)
    assert isinstance(verdict, Ask)
    assert "files:delete_all" in verdict.message


def test_the_plugin_cannot_be_left_out_when_it_fails():
    assert Approval.fails_closed


def test_an_unknown_tool_is_left_to_the_gateway():
    assert Person(always=("*",)).verdict(known=False) is None


def test_other_methods_are_not_asked_about():
    assert configured(Approval).methods == {"tools/call"}


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_accepted_calls_reach_the_upstream_and_others_do_not(era):
    upstream = FakeUpstream("wiped")
    call = make_call("wipe", {"disk": "a"}, era=era)
    user = FakeUser(YES, NO, AWAY)
    ok = await run_call(call, upstream, Approval, user=user)
    assert ok.content["content"][0]["text"] == "wiped"
    assert [it.arguments for it in upstream.calls] == [{"disk": "a"}]
    declined = await run_call(call, upstream, Approval, user=user)
    assert "the user declined it" in declined.error.message
    dismissed = await run_call(call, upstream, Approval, user=user)
    assert "the user dismissed the question" in dismissed.error.message
    assert {declined.error.code, dismissed.error.code} == {-31003}
    assert len(upstream.calls) == 1
    assert len(user.asked) == 3
    assert user.asked[0]["requestedSchema"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_an_agent_that_cannot_be_asked_is_refused(era):
    upstream = FakeUpstream()
    refused = await run_call(make_call("wipe", era=era), upstream, Approval)
    assert refused.error.data["requiredCapabilities"] == {"elicitation": {"form": {}}}
    assert upstream.calls == []


async def test_a_plugin_that_fails_refuses(monkeypatch):
    monkeypatch.setattr("gateway_security_approval.plugin.tier_of", lambda _: 1 / 0)
    upstream = FakeUpstream()
    refused = await run_call(make_call("wipe"), upstream, Approval, user=FakeUser(YES))
    assert refused.error.code == -31004
    assert upstream.calls == []


async def test_malformed_arguments_are_the_agents_mistake():
    user = FakeUser(YES)
    call = make_call("wipe", {"a": 1})
    wrong = type(call)("tools/call", "wipe", call.principal, "modern", "x", b'{"a":1,"a":2}', tool=call.tool)
    refused = await run_call(wrong, FakeUpstream(), Approval, user=user)
    assert refused.error.code == -32600
    assert user.asked == []


def test_an_approval_is_remembered_for_nothing_by_default():
    person = Person()
    assert person.verdict(answer=YES) is None
    assert person.asks()
    assert len(person.plugin._approvals) == 0


def test_an_approval_is_remembered_for_a_time_whatever_the_arguments():
    person = Person(remember=60)
    assert person.verdict(arguments={"a": 1}, answer=YES) is None
    person.now += 59.9
    assert not person.asks(arguments={"a": 2})
    person.now += 0.2
    assert person.asks(arguments={"a": 1})


def test_an_approval_is_of_one_agent_one_tool_and_its_servers():
    person = Person(remember=60)
    assert person.verdict(answer=YES) is None
    assert not person.asks()
    assert person.asks(principal="other@127.0.0.1")
    assert person.asks("wipe_all")
    assert person.asks(upstreams=("other",))
    assert person.asks(upstreams=("upstream", "other"))
    assert person.asks(principal=Principal("other", verified=True))


def test_an_approval_is_remembered_for_a_session():
    person = Person(remember="session")
    assert person.verdict(answer=YES, era="legacy", session="one") is None
    assert not person.asks(era="legacy", session="one")
    assert person.asks(era="legacy", session="two")
    assert person.asks()
    person.now += Approvals.MAX_SECONDS
    assert person.asks(era="legacy", session="one"), "no approval lasts longer than a day"


def test_without_a_session_each_call_is_asked_about():
    person = Person(remember="session")
    assert person.verdict(answer=YES) is None
    assert person.asks()
    assert "further calls" not in person.verdict().message


@pytest.mark.parametrize("answer", [NO, AWAY])
def test_a_decline_is_remembered_for_nothing(answer):
    person = Person(remember=60)
    assert isinstance(person.verdict(answer=answer), Reject)
    assert isinstance(person.verdict(), Ask)
    person.verdict(answer=YES)
    assert isinstance(person.verdict(answer=answer), Reject), "the answer counts, even if an approval is remembered"


def test_the_question_says_what_else_an_acceptance_allows():
    assert "whatever their arguments, pass for 60 seconds" in Person(remember=60).verdict().message
    assert "in this session" in Person(remember="session").verdict(era="legacy", session="s").message
    assert "further calls" not in Person().verdict().message


def test_the_lifetime_of_the_question_is_set():
    assert Person().verdict().lifetime is None
    assert Person(lifetime=5).verdict().lifetime == 5


@pytest.mark.parametrize(
    "settings",
    [
        {"tiers": ("all",)},
        {"unannotated": "none"},
        {"remember": 0},
        {"remember": 86_401},
        {"remember": "always"},
        {"lifetime": 0},
        {"max_shown": 10},
        {"patterns": ("(",)},
        {"patterns": ("x*",)},
        {"always": ("",)},
        {"tools": ("*",)},
    ],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        configured(Approval, **settings)


HINTS = st.dictionaries(st.sampled_from(["readOnlyHint", "destructiveHint"]), st.sampled_from([True, False, None, 1]))


@PATIENT
@given(HINTS, st.sampled_from(["wipe", "read", "*", "w[i"]), st.sets(st.sampled_from(["read", "write", "destructive"])))
def test_a_call_is_passed_or_asked_about_and_never_anything_else(hints, glob, tiers):
    verdict = Person(tiers=tuple(tiers), always=(glob,)).verdict(annotations=hints)
    assert verdict is None or isinstance(verdict, Ask)
    if glob in {"wipe", "*"}:
        assert isinstance(verdict, Ask)


async def test_an_answer_in_place_of_the_upstream_is_not_asked_about():
    class Cache:
        from gateway_core import hookimpl

        @hookimpl
        def before_call(self, call):
            return CallResult.text("cached")

    user = FakeUser()
    assert (await run_call(make_call("wipe"), FakeUpstream(), Cache(), Approval, user=user)).error is None
    assert user.asked == []


def test_the_page_is_for_whom_the_file_says():
    verdict = Person(answer="page", approvers=("approvers",)).verdict()
    assert (verdict.on_page, verdict.approvers) == (True, ("approvers",))
    assert not Person().verdict().on_page


def test_approvers_without_a_page_are_an_error():
    with pytest.raises(ValidationError, match="approvers has no effect"):
        Approval.Config(approvers=("approvers",))


@pytest.mark.parametrize("settings", [{"upstreams": ["files"]}, {"unannotated": "read"}])
def test_what_is_about_tiers_is_an_error_without_any(settings):
    with pytest.raises(ValidationError, match="has no effect while tiers is empty"):
        Approval.Config(tiers=(), always=("wipe",), **settings)


def test_globs_that_match_nothing_are_noted():
    person = Person(upstreams=("githb", "*"), always=("files:*", "flies:x", "wipe"), never=("raed", "files:read"))
    upstreams = frozenset({"github", "files"})
    noted = [note.setting for note in person.plugin.notes(Known(upstreams))]
    assert noted == ["upstreams[0]", "always[1]"]
    tools = [make_call(name, upstreams=("files",)).tool for name in ("read", "list")]
    found = {note.setting: note.message for note in person.plugin.notes(Known(upstreams, tools))}
    assert list(found) == ["upstreams[0]", "always[1]", "always[2]", "never[0]"]
    assert found["never[0]"] == '"raed" matches no published tool; did you mean "read"?'


def test_a_group_without_members_cannot_approve_and_is_noted():
    person = Person(answer="page", approvers=("ops", "approvrs", "operator|control-plane"))
    (note,) = person.plugin.notes(Known(frozenset(), groups=frozenset({"ops", "approvers"})))
    assert (note.setting, note.message) == (
        "approvers[1]",
        'no agent is in the group "approvrs"; did you mean "approvers"?',
    )
