"""`Approvals`: what plugins share that ask a person, and what is remembered of the answers."""

from typing import Any

import pytest

from gateway_core import Answer, Approvals, Ask, Call, Reject, hookimpl
from gateway_core.api.approving import memory
from gateway_core.testing import FakeUpstream, FakeUser, configured, make_call, run_call

YES, NO, AWAY = Answer("accept"), Answer("decline"), Answer("cancel")
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])


class Person:
    """One object, with a clock that is turned by hand."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.approvals = Approvals(clock=lambda: self.now)
        self.options = options

    def verdict(self, name: str = "wipe", answer: Answer | None = None, rule: str = "", **call: Any) -> Any:
        answers = None if answer is None else {"approval": answer}
        made = make_call(name, call.pop("arguments", None), answers=answers, **call)
        return self.approvals.verdict(made, rule=rule, **self.options)

    def asks(self, name: str = "wipe", **call: Any) -> bool:
        verdict = self.verdict(name, **call)
        assert verdict is None or isinstance(verdict, Ask)
        return verdict is not None


class Asks:
    """A plugin that asks about every call."""

    def __init__(self, **options: Any) -> None:
        self.approvals = Approvals()
        self.options = options

    @hookimpl
    def before_call(self, call: Call) -> Ask | Reject | None:
        return self.approvals.verdict(call, **self.options)


class Changes:
    """A plugin that changes the arguments."""

    @hookimpl
    def before_call(self, call: Call) -> Call:
        return call.replace(arguments={**call.arguments, "changed": True})


def asking(*plugins: object) -> list[Any]:
    """The plugins under different names."""
    return [configured(plugin, name=f"plugin{number}") for number, plugin in enumerate(plugins)]


def test_a_question_says_that_its_acceptance_approves_the_call() -> None:
    verdict = Person().verdict()
    assert verdict.approves
    assert verdict.message.startswith("Allow this call of a tool?")


@pytest.mark.parametrize(
    ("method", "name", "done"),
    [
        ("tools/call", "wipe", "wipe was not called"),
        ("prompts/get", "greet", "greet was not used"),
        ("resources/read", "file:///x", "file:///x was not read"),
    ],
)
def test_what_is_not_accepted_is_refused(method: str, name: str, done: str) -> None:
    person = Person()
    declined, dismissed = (person.verdict(name, answer, method=method) for answer in (NO, AWAY))
    assert declined == Reject(f"{done}: the user declined it. Do not try to reach the same end in another way.")
    assert dismissed.message.startswith(f"{done}: the user dismissed the question.")
    assert person.verdict(name, YES, method=method) is None


@ERAS
async def test_a_person_is_asked_once_whichever_plugins_ask(era: Any) -> None:
    user, upstream = FakeUser(YES), FakeUpstream()
    call = make_call("wipe", {"disk": 1}, era=era)
    result = await run_call(call, upstream, *asking(Asks(), Asks(reason="two"), Asks(reason="three")), user=user)
    assert result.error is None
    assert len(upstream.calls) == len(user.asked) == 1


@ERAS
async def test_a_call_that_is_changed_after_its_approval_is_asked_about_again(era: Any) -> None:
    user, upstream = FakeUser(YES, NO), FakeUpstream()
    call = make_call("wipe", {"disk": 1}, era=era)
    result = await run_call(call, upstream, *asking(Asks(), Changes(), Asks()), user=user)
    assert result.error is not None
    assert "declined" in result.error.message
    assert not upstream.calls
    assert ["changed" in asked["message"] for asked in user.asked] == [False, True]


@ERAS
async def test_a_question_that_does_not_approve_the_call_is_no_approval(era: Any) -> None:
    class Greets:
        @hookimpl
        def before_call(self, call: Call) -> Ask | None:
            return None if call.answers else Ask("Hello?", name="approval")

    user = FakeUser(YES, YES)
    assert (await run_call(make_call(era=era), FakeUpstream(), *asking(Greets(), Asks()), user=user)).error is None
    assert [asked["message"][:5] for asked in user.asked] == ["Hello", "Allow"]


async def test_only_the_plugin_that_asked_remembers() -> None:
    plugins = asking(Asks(), Asks(remember=60))
    user = FakeUser(YES, YES)
    for _ in range(2):
        assert (await run_call(make_call(), FakeUpstream(), *plugins, user=user)).error is None
    assert len(user.asked) == 2
    assert len(plugins[1].instance.approvals) == 0, "the question did not say that it would"


def test_what_is_remembered_belongs_to_one_rule() -> None:
    person = Person(remember=60)
    assert person.verdict(answer=YES, rule="1") is None
    assert not person.asks(rule="1")
    assert person.asks(rule="2")


def test_what_is_remembered_belongs_to_one_method() -> None:
    person = Person(remember=60)
    assert person.verdict("x", YES, method="prompts/get") is None
    assert not person.asks("x", method="prompts/get")
    assert person.asks("x")


def test_approvals_are_bounded_and_the_oldest_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_APPROVALS", 10)
    person = Person(remember=60)
    for number in range(50):
        person.verdict(f"tool{number}", YES)
    assert len(person.approvals) == 10
    assert person.asks("tool39")
    assert not person.asks("tool40")
    person.verdict("one_more", YES)
    assert not person.asks("tool40"), "it was used since"
    assert person.asks("tool41")


@pytest.mark.parametrize("pattern", ["(", "x*"])
def test_patterns_that_hide_nothing_or_everything_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Approvals((pattern,))


def test_a_question_for_a_page_says_who_may_answer() -> None:
    verdict = Person(on_page=True, approvers=("approvers",)).verdict()
    assert (verdict.on_page, verdict.approvers) == (True, ("approvers",))
    assert Person().verdict().on_page is False


def test_what_was_approved_in_the_client_is_no_approval_on_a_page() -> None:
    person = Person(on_page=True)
    assert isinstance(person.verdict(answer=YES), Ask), "the answer to a question of another configuration"
    page_answer = make_call("wipe", None, answers={"approval-page": YES})
    assert person.approvals.verdict(page_answer, on_page=True) is None
    assert isinstance(person.approvals.verdict(page_answer), Ask)


@ERAS
async def test_a_page_asks_again_what_another_plugin_has_asked_in_the_client(era: Any) -> None:
    user, upstream = FakeUser(YES), FakeUpstream()
    result = await run_call(make_call("wipe", era=era), upstream, *asking(Asks(), Asks(on_page=True)), user=user)
    assert result.error is not None
    assert "has no pages" in result.error.message
    assert not upstream.calls
    assert len(user.asked) == 1
