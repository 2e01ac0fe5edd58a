"""The chain: which hooks run, in which order, with what, and what a failing one leads to."""

import asyncio
import re

import pytest
from loguru import logger
from msgspec.structs import replace

from gateway_core import Ask, CallResult, Health, Pass, Reject, hookimpl
from gateway_core.api import Answers, Call, GivenAnswer, Outcome, Principal
from gateway_core.errors import INVALID_REQUEST, PLUGIN_FAILED, REJECTED, PluginError, RpcError
from gateway_core.hooks import HOOKS, Chain, ChainProgress, verdicts
from gateway_core.testing import configured, make_call, make_conflict, make_result, make_upstream


def name_of(value: object) -> str:
    """A test id that is the same in every process: functions by name, the rest as text."""
    return re.sub(r" at 0x[0-9a-f]+", "", getattr(value, "__name__", str(value)))


ALL = frozenset(["tools/call", "prompts/get", "resources/read", "completion/complete"])


@pytest.fixture
def log():
    seen = []
    handler = logger.add(lambda message: seen.append(message.record), level="DEBUG")
    yield seen
    logger.remove(handler)


def plugin(name, on_error="reject", methods=None, **hooks):
    """A loaded plugin whose hooks are the given functions of the hook's arguments, as plain methods."""
    members = {hook: hookimpl(_method(hook, function)) for hook, function in hooks.items()}
    if methods is not None:
        members["methods"] = methods
    return configured(type(name, (), members)(), name=name, on_error=on_error)


def _method(hook, function):
    if asyncio.iscoroutinefunction(function):
        if hook == "after_call":

            async def after_call(self, call, result):
                return await function(call, result)

            return after_call

        async def one(self, call):
            return await function(call)

        async def health(self, upstream):
            return await function(upstream)

        return health if hook == "check_health" else one
    methods = {
        "before_call": lambda self, call: function(call),
        "after_call": lambda self, call, result: function(call, result),
        "route_tool": lambda self, call, candidates: function(call, candidates),
        "resolve_conflict": lambda self, conflict: function(conflict),
        "check_health": lambda self, upstream: function(upstream),
    }
    return methods[hook]


def tracer(trace, name, **more):
    """A plugin that passes everything and writes down when it was asked."""
    return plugin(
        name,
        before_call=lambda call: trace.append(f"{name} before"),
        after_call=lambda call, result: trace.append(f"{name} after {result.outcome}"),
        **more,
    )


def boom(*_):
    raise ValueError("hush")


async def boom_later(*_):
    await asyncio.sleep(0)
    raise ValueError("hush")


async def serve(plugins, call=None, result=None, lookup=lambda call: call):
    """What the pipeline does with a chain: returns the call, what `before` ended with, and the final result."""
    chain = Chain(plugins)
    passed = ChainProgress()
    call, verdict = await chain.run_before(call or make_call(), lookup, passed)
    if isinstance(verdict, Reject):
        verdict = CallResult.failed(RpcError.of_gateway(verdict.code, verdict.message), Outcome.REFUSED)
    ended = verdict
    return call, ended, await chain.run_after(passed, ended or result or make_result())


# -- questions -------------------------------------------------------------------------------------------------------


class Asks:
    """A plugin that asks until it has an answer."""

    def __init__(self, trace):
        self.trace = trace

    @hookimpl
    def before_call(self, call):
        self.trace.append("asks before")
        return None if call.answers else Ask("may it?")

    @hookimpl
    def after_call(self, call, result):
        self.trace.append(f"asks after {result.outcome}")


def answered(call, question):
    given = GivenAnswer(question.plugin, question.ask.name, call.subject(), "accept")
    return call.with_answers(Answers([given]))


async def test_the_chain_stops_at_a_question_and_goes_on_with_the_plugin_that_asked():
    trace, passed = [], ChainProgress()
    chain = Chain([tracer(trace, "one"), configured(Asks(trace), name="asks"), tracer(trace, "two")])
    call, question = await chain.run_before(make_call(), lambda call: call, passed)
    assert (question.plugin, question.ask) == ("asks", Ask("may it?"))
    assert trace == ["one before", "asks before"]
    call, verdict = await chain.run_before(answered(call, question), lambda call: call, passed, question)
    assert verdict is None
    assert trace == ["one before", "asks before", "asks before", "two before"]
    await chain.run_after(passed, make_result())
    assert trace[4:] == ["two after ok", "asks after ok", "one after ok"], "each once"


async def test_a_call_that_ends_with_the_question_ends_for_the_plugins_that_saw_it():
    trace, passed = [], ChainProgress()
    silent = plugin("silent", after_call=lambda call, result: trace.append(f"silent after {result.outcome}"))
    chain = Chain([tracer(trace, "one"), configured(Asks(trace), name="asks"), tracer(trace, "two"), silent])
    await chain.run_before(make_call(), lambda call: call, passed)
    await chain.run_after(passed, CallResult(raw=b"{}", outcome=Outcome.ASKED))
    assert trace == ["one before", "asks before", "silent after asked", "asks after asked", "one after asked"]


async def test_a_plugin_without_before_call_sees_the_end_once_after_a_question():
    trace, passed = [], ChainProgress()
    silent = plugin("silent", after_call=lambda call, result: trace.append("silent"))
    chain = Chain([configured(Asks(trace), name="asks"), silent])
    call, question = await chain.run_before(make_call(), lambda call: call, passed)
    await chain.run_before(answered(call, question), lambda call: call, passed, question)
    await chain.run_after(passed, make_result())
    assert trace.count("silent") == 1


async def test_an_asynchronous_plugin_may_ask_and_one_that_fails_with_the_answer_refuses(log):
    async def asks(call):
        await asyncio.sleep(0)
        return Ask("may it?") if not call.answers else boom()

    passed = ChainProgress()
    chain = Chain([plugin("asks", before_call=asks, after_call=boom)])
    call, question = await chain.run_before(make_call(), lambda call: call, passed)
    _, verdict = await chain.run_before(answered(call, question), lambda call: call, passed, question)
    assert verdict.error.code == PLUGIN_FAILED
    assert passed.due == (), "its before_call has not completed"


# -- which methods ---------------------------------------------------------------------------------------------------


def test_an_empty_chain_wants_nothing():
    chain = Chain([])
    assert chain.methods.isdisjoint(ALL)
    assert not chain.has_health_check
    assert chain.route_tool(make_call(), [make_upstream()]) is None
    assert chain.resolve_conflict(make_conflict()) is None


def test_a_plugin_gets_the_four_default_methods_and_no_lists():
    chain = Chain([plugin("p", before_call=lambda call: None)])
    assert chain.methods == ALL


def test_a_plugin_gets_only_the_methods_that_it_names():
    chain = Chain([plugin("p", before_call=lambda call: None, methods={"tools/list"})])
    assert "tools/list" in chain.methods
    assert "tools/call" not in chain.methods


async def test_plugins_do_not_see_calls_of_methods_that_they_did_not_name():
    trace = []
    plugins = [tracer(trace, "tools", methods={"tools/call"}), tracer(trace, "lists", methods={"tools/list"})]
    await serve(plugins, make_call(method="tools/list"))
    assert trace == ["lists before", "lists after ok"]


# -- before_call and after_call --------------------------------------------------------------------------------------


async def test_hook_before_call():
    trace = []
    call, ended, _ = await serve([tracer(trace, "a"), tracer(trace, "b")])
    assert trace == ["a before", "b before", "b after ok", "a after ok"]
    assert ended is None
    assert call.name == "echo"


async def test_hook_after_call():
    seen = []

    def shout(call, result):
        seen.append((call.name, result.upstream))
        return result.replace({"content": [{"type": "text", "text": "LOUD"}]})

    _, _, result = await serve([plugin("a", after_call=lambda call, result: None), plugin("b", after_call=shout)])
    assert seen == [("echo", "upstream")]
    assert result.content["content"][0]["text"] == "LOUD"
    assert result.upstream == "upstream"


async def test_later_after_calls_see_the_rewritten_result():
    seen = []
    first = plugin("first", after_call=lambda call, result: seen.append(result.content["n"]))
    last = plugin("last", after_call=lambda call, result: result.replace({"n": 2}))
    await serve([first, last], result=CallResult.of({"n": 1}))
    assert seen == [2]


async def test_asynchronous_hooks_are_waited_for():
    async def rewrite(call):
        await asyncio.sleep(0)
        return call.replace(name="other")

    async def answer(call, result):
        await asyncio.sleep(0)
        return make_result(call.name)

    call, _, result = await serve([plugin("p", before_call=rewrite, after_call=answer)])
    assert call.name == "other"
    assert result.content["content"][0]["text"] == "other"


async def test_a_synchronous_hook_may_return_an_awaitable():
    async def refuse():
        return Reject("later")

    async def answer():
        return make_result("replaced")

    _, ended, _ = await serve([plugin("p", before_call=lambda call: refuse())])
    assert ended.error.message == "later"
    _, _, result = await serve([plugin("p", after_call=lambda call, result: answer())])
    assert result.content["content"][0]["text"] == "replaced"


async def test_implementations_may_leave_arguments_out_or_reorder_them():
    seen = []

    class Odd:
        @hookimpl
        def before_call(self):
            seen.append("before")

        @hookimpl
        def after_call(self, result, call):
            seen.append((call.name, result.outcome))

    class Deaf:
        @hookimpl
        async def after_call(self, call):
            seen.append(call.name)

    await serve([configured(Odd), configured(Deaf)])
    assert seen == ["before", "echo", ("echo", "ok")]


async def test_reject_skips_later_plugins():
    trace = []
    plugins = [tracer(trace, "a"), plugin("b", before_call=lambda call: Reject("no")), tracer(trace, "c")]
    _, ended, _ = await serve(plugins)
    assert ended.error.message == "no"
    assert trace == ["a before", "a after refused"]


async def test_a_result_answers_in_the_upstreams_place_and_skips_later_plugins():
    trace = []
    plugins = [tracer(trace, "a"), plugin("b", before_call=lambda call: make_result("cached")), tracer(trace, "c")]
    _, ended, result = await serve(plugins)
    assert ended is result
    assert trace == ["a before", "a after ok"]


async def test_the_plugin_that_refused_sees_the_end_too_because_its_before_call_completed():
    seen = []
    plugins = [plugin("p", before_call=lambda call: Reject("no"), after_call=lambda c, r: seen.append(r.outcome))]
    await serve(plugins)
    assert seen == ["refused"]


async def test_a_plugin_with_only_after_call_sees_every_end_wherever_it_stands():
    seen = []
    audit = plugin("audit", after_call=lambda call, result: seen.append((call.name, str(result.outcome))))
    rename = plugin("rename", before_call=lambda call: call.replace(name="new"))
    refuse = plugin("refuse", before_call=lambda call: Reject("no"))
    await serve([rename, refuse, audit])
    await serve([audit, rename, refuse])
    assert seen == [("new", "refused"), ("echo", "refused")]


async def test_each_after_call_gets_the_call_as_its_own_before_call_left_it():
    seen = []

    def renamer(name):
        return plugin(
            name,
            before_call=lambda call: call.replace(name=name),
            after_call=lambda call, result: seen.append((name, call.name)),
        )

    await serve([renamer("a"), renamer("b")])
    assert seen == [("b", "b"), ("a", "a")]


async def test_a_rewritten_call_is_looked_up_again():
    found = []

    def lookup(call):
        found.append((call.name, call.tool))
        return replace(call, tool=make_call(call.name).tool)

    tools = []
    plugins = [
        plugin("a", before_call=lambda call: call),
        plugin("b", before_call=lambda call: call.replace(name="new", arguments={"x": 1})),
        plugin("c", before_call=lambda call: tools.append(call.tool.name)),
    ]
    call, _, _ = await serve(plugins, lookup=lookup)
    assert found == [("new", None)], "only where the call is another one"
    assert tools == ["new"]
    assert call.raw_arguments == b'{"x":1}'


async def test_state_belongs_to_one_plugin_and_one_call():
    seen = []

    def counting(name):
        async def before(call):
            call.state["n"] = call.state.get("n", 0) + 1
            await asyncio.sleep(0)
            call.state["who"] = name

        return plugin(name, before_call=before, after_call=lambda call, result: seen.append(dict(call.state)))

    chain_plugins = [counting("a"), counting("b")]
    await serve(chain_plugins)
    await serve(chain_plugins)
    assert seen == [{"n": 1, "who": "b"}, {"n": 1, "who": "a"}] * 2


async def test_the_state_of_a_kept_call_stays_its_plugins_while_another_plugin_runs():
    kept, woken, seen = [], asyncio.Event(), []

    async def wait(call):
        kept.append(call)
        call.state["who"] = "a"
        await woken.wait()
        seen.append(("a", dict(call.state)))

    def peek(call):
        call.state["who"] = "b"
        seen.append(("a, while b runs", dict(kept[0].state)))
        woken.set()

    chain = Chain([plugin("a", before_call=wait), plugin("b", before_call=peek)])
    call = make_call()
    waiting = asyncio.ensure_future(chain.run_before(call, lambda call: call, ChainProgress()))
    await asyncio.sleep(0)
    peek_at = Chain([plugin("b", before_call=peek)])
    await peek_at.run_before(call, lambda call: call, ChainProgress())
    await waiting
    assert seen == [("a, while b runs", {"who": "a"}), ("a", {"who": "a"}), ("a, while b runs", {"who": "a"})]


async def test_after_call_gets_the_call_that_before_call_returned():
    kept, seen = [], []

    def rewrite(call):
        kept.append(call.replace(arguments={"x": 1}))
        return kept[0]

    plugins = [
        plugin("a", before_call=rewrite, after_call=lambda call, result: seen.append(call)),
        plugin("b", before_call=lambda call: call.replace(arguments={"x": 2})),
    ]
    await serve(plugins)
    assert seen == kept


async def test_a_call_that_another_plugin_made_is_judged_as_a_rewrite_and_keeps_states_apart():
    kept, seen = [], []

    def take(call):
        call.state["who"] = "a"
        kept.append(call.replace(name="other"))

    def give(call):
        call.state["who"] = "b"
        return kept[0]

    plugins = [
        plugin("a", before_call=take),
        plugin("b", before_call=give, after_call=lambda call, result: seen.append((call.name, call.state))),
    ]
    call, ended, _ = await serve(plugins)
    assert (call.name, ended) == ("other", None)
    assert seen == [("other", {"who": "b"})]


@pytest.mark.parametrize("on_error", ["reject", "ignore"])
async def test_a_change_in_place_fails_and_reaches_neither_later_plugins_nor_the_upstream(log, on_error):
    seen = []

    def clean(call):
        call.arguments["path"] = "/safe/x"

    guard = plugin("guard", before_call=lambda call: seen.append(call.arguments["path"]))
    call = make_call(arguments={"path": "/etc/../safe/x"})
    call, ended, _ = await serve([plugin("cleaner", on_error, before_call=clean), guard], call)
    assert call.arguments == {"path": "/etc/../safe/x"}
    assert seen == ([] if on_error == "reject" else ["/etc/../safe/x"])
    assert (ended is None) is (on_error == "ignore")
    assert "raised ReadOnlyError at" in log[0]["message"]
    assert "return call.replace(arguments=…)" in log[0]["message"]


async def test_after_runs_each_hook_once_even_if_asked_twice():
    trace = []
    chain = Chain([tracer(trace, "a")])
    passed = ChainProgress()
    await chain.run_before(make_call(), lambda call: call, passed)
    await chain.run_after(passed, make_result())
    await chain.run_after(passed, make_result())
    assert trace == ["a before", "a after ok"]


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [boom, boom_later])
async def test_a_failing_before_call_refuses_the_call(log, failing):
    trace = []
    plugins = [tracer(trace, "a"), plugin("broken", before_call=failing), tracer(trace, "c")]
    _, ended, _ = await serve(plugins)
    assert ended.error.code == PLUGIN_FAILED
    assert ended.error.message == "the plugin broken failed in before_call; the call was not sent"
    assert ended.error.data == {"source": "gateway", "plugin": "broken", "hook": "before_call"}
    assert trace == ["a before", "a after refused"]


async def test_a_failing_before_call_is_passed_over_with_on_error_ignore(log):
    trace = []
    plugins = [
        plugin("broken", "ignore", before_call=boom, after_call=lambda c, r: trace.append("broken after")),
        tracer(trace, "c"),
    ]
    _, ended, _ = await serve(plugins)
    assert ended is None
    assert trace == ["c before", "c after ok"], "its before_call did not complete, so its after_call is not due"
    assert len(log) == 1


async def test_a_failure_is_logged_once_with_plugin_hook_exchange_and_place_and_without_its_text(log):
    await serve([plugin("broken", before_call=boom)])
    (record,) = log
    assert record["extra"] == {"plugin": "broken", "hook": "before_call", "exchange": "exchange", "generation": 1}
    assert "plugin broken failed in before_call for exchange: raised ValueError at " in record["message"]
    assert "test_chain.py" in record["message"]
    assert "in boom" in record["message"]
    assert "hush" not in record["message"]
    assert record["exception"] is None


@pytest.mark.parametrize("failing", [boom, boom_later])
async def test_a_failing_after_call_withholds_the_result(log, failing):
    seen = []
    plugins = [
        plugin("audit", after_call=lambda call, result: seen.append(result.outcome)),
        plugin("broken", after_call=failing),
    ]
    _, _, result = await serve(plugins, result=make_result("secret"))
    assert result.error.code == PLUGIN_FAILED
    assert "the call was executed and its result is withheld" in result.error.message
    assert b"secret" not in result.raw
    assert result.upstream == "upstream"
    assert seen == ["error"]
    assert len(log) == 1


async def test_a_tools_own_error_is_withheld_too_because_it_has_a_text(log):
    _, _, result = await serve([plugin("broken", after_call=boom)], result=make_result("secret", is_error=True))
    assert result.error.code == PLUGIN_FAILED


async def test_a_failing_after_call_keeps_an_error(log):
    error = CallResult.failed(RpcError(-32602, "wrong"))
    _, _, result = await serve([plugin("broken", after_call=boom)], result=error)
    assert result is error
    assert len(log) == 1


async def test_a_failing_after_call_keeps_the_result_with_on_error_ignore(log):
    good = make_result()
    _, _, result = await serve([plugin("broken", "ignore", after_call=boom)], result=good)
    assert result is good


def _rebuilt(call):
    return Call("tools/call", "echo", Principal("somebody else"), "modern", "exchange")


@pytest.mark.parametrize(
    "verdict",
    [True, "no", {"content": []}, Reject, CallResult(), CallResult(raw=b"[]"), Health(True), _rebuilt],
    ids=name_of,
)
async def test_a_wrong_verdict_is_a_failure(log, verdict):
    hook = verdict if callable(verdict) and verdict is not Reject else lambda call: verdict
    _, ended, _ = await serve([plugin("broken", before_call=hook)])
    assert ended.error.code == PLUGIN_FAILED
    assert "returned a" in log[0]["message"]


async def test_the_log_says_what_a_hook_may_return(log):
    await serve([plugin("broken", before_call=lambda call: 5, after_call=lambda call, result: 5)])
    await serve([plugin("broken", after_call=lambda call, result: 5)])
    assert [one["message"].split(": ")[1].split(";")[0] for one in log] == [
        "returned a int instead of None, a Call, a Pass, a Reject, a CallResult or an Ask",
        "returned a int instead of None or a CallResult",
    ]


class Allowed(Pass):
    """A verdict of a plugin's own."""


async def test_a_pass_of_a_class_of_the_plugin_lets_a_call_pass(log):
    chain, progress = Chain([plugin("p", before_call=lambda call: Allowed("rule 7"))], rehearses=True), ChainProgress()
    _, ended = await chain.run_before(make_call(), lambda call: call, progress)
    assert ended is None
    assert [(one.decided, one.rule) for one in progress.decisions] == [("pass", "rule 7")]
    _, ended, _ = await serve([plugin("p", before_call=lambda call: Allowed("rule 7"))])
    assert ended is None
    assert log == []


@pytest.mark.parametrize("verdict", [Pass(7), Reject("no", rule=7), CallResult.refused("no", rule=7)], ids=type)
async def test_a_rule_that_is_no_text_is_a_failure(log, verdict):
    chain, progress = Chain([plugin("p", before_call=lambda call: verdict)], rehearses=True), ChainProgress()
    _, ended = await chain.run_before(make_call(), lambda call: call, progress)
    assert ended.error.code == PLUGIN_FAILED
    assert f"returned a {type(verdict).__name__} whose rule is a int, not a text" in log[0]["message"]


async def test_a_result_of_an_after_call_with_a_rule_that_is_no_text_is_a_failure(log):
    edited = replace(make_result(), rule=7)
    _, _, result = await serve([plugin("p", after_call=lambda call, result: edited)])
    assert result.error.code == PLUGIN_FAILED


@pytest.mark.parametrize("verdict", [True, {"content": []}, Reject("too late"), CallResult(), make_call()], ids=type)
async def test_a_wrong_result_is_a_failure(log, verdict):
    _, _, result = await serve([plugin("broken", after_call=lambda call, result: verdict)])
    assert result.error.code == PLUGIN_FAILED


MALFORMED = {"raw_arguments": b'{"path": "a", "path": "b"}'}


async def test_arguments_that_cannot_be_read_are_the_agents_fault(log):
    seen = []
    plugins = [
        tracer(seen, "a"),
        plugin("reader", "ignore", before_call=lambda call: seen.append(call.arguments)),
    ]
    _, ended, _ = await serve(plugins, replace(make_call(), **MALFORMED))
    assert ended.error.code == INVALID_REQUEST
    assert "twice" in ended.error.message
    assert seen == ["a before", "a after error"]
    assert log == []


@pytest.mark.parametrize("on_error", ["reject", "ignore"])
@pytest.mark.parametrize("malformed", [MALFORMED, {"raw_meta": b'{"a": 1, "a": 2}'}], ids=["arguments", "meta"])
async def test_a_call_that_an_after_call_cannot_read_is_refused_before_it_is_sent(log, malformed, on_error):
    trace = []
    reads = plugin("reads", on_error, after_call=lambda call, result: trace.append(dict(call.arguments | call.meta)))
    call = replace(make_call(), **malformed)
    _, ended, result = await serve([tracer(trace, "a"), reads, tracer(trace, "b")], call)
    assert ended.error.code == INVALID_REQUEST
    assert "twice" in result.error.message
    assert trace == ["a before", "a after error"]
    assert log == []


async def test_a_result_of_a_plugin_is_withheld_from_a_call_that_an_after_call_cannot_read(log):
    reads = plugin("reads", after_call=lambda call, result: call.arguments["path"] and None)
    cache = plugin("cache", before_call=lambda call: CallResult.text("cached"))
    _, _, result = await serve([cache, reads], replace(make_call(), **MALFORMED))
    assert (result.error.code, result.raw) == (INVALID_REQUEST, b"")
    assert log == []


class SaysItDoesNotRead:
    after_call_reads_arguments = False

    @hookimpl
    def after_call(self, call, result):
        return None if "path" in call.name else dict(call.arguments)


class LeavesTheCallOut:
    @hookimpl
    def after_call(self, result): ...


@pytest.mark.parametrize("kind", [SaysItDoesNotRead, LeavesTheCallOut])
async def test_arguments_are_not_decoded_for_an_after_call_that_does_not_read_them(log, kind):
    call = replace(make_call("path"), **MALFORMED)
    _, ended, result = await serve([configured(kind())], call)
    assert (ended, result.error) == (None, None)
    assert log == []


async def test_an_after_call_that_reads_arguments_against_its_word_has_failed(log):
    _, _, result = await serve([configured(SaysItDoesNotRead(), name="p")], replace(make_call(), **MALFORMED))
    assert "the call was executed and its result is withheld" in result.error.message
    assert "raised UnreadableCall at " in log[0]["message"]


@pytest.mark.parametrize("on_error", ["reject", "ignore"])
async def test_an_rpc_error_that_a_plugin_raises_is_its_failure(log, on_error):
    def secret(*_):
        raise RpcError(-32000, "secret detail")

    raises = plugin("p", on_error, before_call=secret)
    chain, progress = Chain([raises], rehearses=True), ChainProgress()
    _, ended = await chain.run_before(make_call(), lambda call: call, progress)
    assert [(one.plugin, one.decided) for one in progress.decisions] == [("p", "fail")]
    assert ended is None if on_error == "ignore" else ended.error.code == PLUGIN_FAILED
    assert len(log) == 1
    assert "detail" not in log[0]["message"]


@pytest.mark.parametrize("hook", ["before_call", "after_call"])
async def test_a_failure_that_repeats_is_logged_once_a_minute(log, hook):
    chain = Chain([plugin("broken", **{hook: boom}), plugin("other", "ignore", before_call=boom)])
    for _ in range(20):
        progress = ChainProgress()
        _, ended = await chain.run_before(make_call(), lambda call: call, progress)
        result = await chain.run_after(progress, ended or make_result())
        assert result.error.code == PLUGIN_FAILED
    expected = [("broken", "before_call")] if hook == "before_call" else [("other", "before_call"), ("broken", hook)]
    assert [(one["extra"]["plugin"], one["extra"]["hook"]) for one in log] == expected
    assert log[0]["message"].endswith("; logged once a minute")


@pytest.mark.parametrize("later", [False, True])
async def test_returning_the_call_itself_is_no_rewrite(later):
    async def same(call):
        return call

    chain = Chain([plugin("p", before_call=same if later else lambda call: call)], rehearses=True)
    progress = ChainProgress()
    _, ended = await chain.run_before(make_call(), lambda call: call, progress)
    assert (ended, progress.decisions) == (None, ())


class Panic(BaseException):
    """What extensions written in other languages raise."""


ENDS = pytest.mark.parametrize("kind", [Panic, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
"""What a plugin may raise that no `except Exception` sees."""


def raising(kind, *, later=False):
    def leave(*_):
        raise kind("hush")

    async def leave_later(*_):
        await asyncio.sleep(0)
        raise kind("hush")

    return leave_later if later else leave


@ENDS
@pytest.mark.parametrize("later", [False, True])
async def test_a_plugin_can_neither_end_the_gateway_nor_cancel_a_call(log, kind, later):
    leave = raising(kind, later=later)
    _, ended, _ = await serve([plugin("broken", before_call=leave)])
    assert ended.error.data["plugin"] == "broken"
    _, ended, _ = await serve([plugin("broken", "ignore", before_call=leave)])
    assert ended is None
    _, _, result = await serve([plugin("broken", after_call=leave)])
    assert result.error.code == PLUGIN_FAILED
    good = make_result()
    _, _, result = await serve([plugin("broken", "ignore", after_call=leave)], result=good)
    assert result is good
    assert not (await Chain([plugin("broken", check_health=leave)]).check_health(ONE)).healthy
    assert await Chain([plugin("broken", "ignore", check_health=leave)]).check_health(ONE) is None
    assert len(log) == 6
    assert "hush" not in str([record["message"] for record in log])


@ENDS
def test_a_strategy_can_neither_end_the_gateway_nor_cancel_a_call(log, kind):
    leave = raising(kind)
    with pytest.raises(RpcError) as refused:
        Chain([plugin("p", route_tool=leave)]).route_tool(make_call(), [ONE, TWO])
    assert refused.value.code == PLUGIN_FAILED
    assert Chain([plugin("p", "ignore", route_tool=leave)]).route_tool(make_call(), [ONE, TWO]) is None
    assert Chain([plugin("p", resolve_conflict=leave)]).resolve_conflict(make_conflict()) is None
    assert len(log) == 3


async def test_an_after_call_that_raises_at_the_end_of_a_cancelled_call_has_failed_and_the_others_run():
    seen = []
    audit = plugin("audit", after_call=lambda call, result: seen.append(result.outcome))
    broken = plugin("broken", "ignore", after_call=raising(asyncio.CancelledError, later=True))
    chain, passed = Chain([audit, broken, plugin("slow", before_call=_endless)]), ChainProgress()

    async def serve_it():
        try:
            await chain.run_before(make_call(), lambda call: call, passed)
        except asyncio.CancelledError:
            return await chain.run_after(passed, CallResult.failed(RpcError(-1, "cancelled"), Outcome.CANCELLED))

    task = asyncio.ensure_future(serve_it())
    await asyncio.sleep(0.01)
    task.cancel()
    assert (await task).outcome is Outcome.CANCELLED
    assert seen == ["cancelled"]


def test_a_call_whose_task_is_thrown_away_ends_without_another_step(log):
    chain = Chain([plugin("slow", before_call=_endless), tracer([], "b")])
    loop = asyncio.new_event_loop()
    serving = chain.run_before(make_call(), lambda call: call, ChainProgress())
    task = loop.create_task(serving)
    loop.run_until_complete(asyncio.sleep(0))
    serving.close()
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert log == []


def _error(code=-1, message="no", data=None):
    return CallResult.failed(RpcError(code, message, data))


REFUSALS = [
    Reject("\ud800"),
    Reject(5),
    Reject("x", code="y"),
    Reject("x", code=True),
    Reject("x", code=2**80),
    Reject("x", retry_after="soon"),
    Reject("x", retry_after=float("nan")),
    Reject("x", retry_after=float("inf")),
    Reject("x", retry_after=1e308),
    Reject("x", retry_after=-1),
    Reject("x", data=["a"]),
    Reject("x", data={1: "a"}),
    Reject("x", data={"a": object()}),
    Reject("x", data={"a": "\ud800"}),
    Reject("x", data={"a": "a" * 65_536}),
]
RESULTS = [
    CallResult.failed("no"),
    CallResult(b"{}", outcome="weird"),
    CallResult(b"{}", outcome="ok"),
    CallResult(b"{}", upstream=5),
    CallResult(b"{}", era="weird"),
    CallResult("{}"),
    CallResult(b"{broken"),
    CallResult(b'{"a":\n1}'),
    CallResult(b'{"a":"\xff"}'),
    CallResult(b"[1,2]"),
    _error(code="y"),
    _error(code=2**80),
    _error(message="\ud800"),
    _error(message=None),
    _error(data=object()),
    _error(data=["\ud800"]),
]


QUESTIONS = [
    Ask(""),
    Ask(None),
    Ask("\ud800"),
    Ask("x" * (verdicts.MAX_MESSAGE + 1)),
    Ask("why?", name=""),
    Ask("why?", name="a b"),
    Ask("why?", name="n" * 65),
    Ask("why?", name=1),
    Ask("why?", schema={"type": "string"}),
    Ask("why?", schema={"type": "object", "properties": {}}, url="https://example.com"),
    Ask("why?", url="javascript:alert(1)"),
    Ask("why?", url="https://example.com/\n"),
    Ask("why?", url="https://ex\u00e4mple.com/"),
    Ask("why?", url="https://"),
    Ask("why?", url=f"https://{'x' * verdicts.MAX_URL}"),
    Ask("why?", lifetime=0),
    Ask("why?", lifetime=-1),
    Ask("why?", lifetime=float("nan")),
    Ask("why?", lifetime=float("inf")),
    Ask("why?", lifetime="9"),
    Ask("why?", lifetime=True),
    Ask("why?", approves="yes"),
    Ask("why?", on_page="yes"),
    Ask("why?", on_page=True, url="https://example.com/"),
    Ask("why?", on_page=True, schema={"type": "object", "properties": {}}),
    Ask("why?", on_page=True, approvers="staff"),
    Ask("why?", on_page=True, approvers=[1]),
]


@pytest.mark.parametrize("on_error", ["reject", "ignore"])
@pytest.mark.parametrize("verdict", [*REFUSALS, *RESULTS, *QUESTIONS], ids=lambda verdict: ascii(verdict)[:60])
async def test_a_verdict_that_cannot_be_sent_is_a_failure_of_its_plugin(log, on_error, verdict):
    _, ended, _ = await serve([plugin("broken", on_error, before_call=lambda call: verdict)])
    if on_error == "ignore":
        assert ended is None
    else:
        assert (ended.error.code, ended.error.data["plugin"]) == (PLUGIN_FAILED, "broken")
    (record,) = log
    assert "plugin broken failed in before_call for exchange: returned a" in record["message"]


@pytest.mark.parametrize("verdict", RESULTS, ids=lambda verdict: ascii(verdict)[:60])
async def test_a_result_that_cannot_be_sent_is_a_failure_of_its_plugin(log, verdict):
    hook = {"after_call": lambda call, result: verdict}
    _, _, result = await serve([plugin("broken", **hook)])
    assert (result.error.code, result.error.data["plugin"]) == (PLUGIN_FAILED, "broken")
    good = make_result()
    _, _, result = await serve([plugin("broken", "ignore", **hook)], result=good)
    assert result is good
    assert len(log) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "\ud800"},
        {"name": 5},
        {"arguments": [1, 2]},
        {"arguments": Principal("a")},
        {"arguments": "text"},
        {"arguments": {"a": object()}},
        {"arguments": {"a": "\ud800"}},
    ],
    ids=lambda rewrite: ascii(name_of(rewrite)),
)
async def test_a_rewrite_that_cannot_be_sent_is_a_failure_of_its_plugin(log, changes):
    looked_up = []
    rewrite = {"before_call": lambda call: call.replace(**changes)}
    _, ended, _ = await serve([plugin("broken", **rewrite)], lookup=looked_up.append)
    assert (ended.error.code, ended.error.data["plugin"]) == (PLUGIN_FAILED, "broken")
    original = make_call()
    call, ended, _ = await serve([plugin("broken", "ignore", **rewrite)], original, lookup=looked_up.append)
    assert (call.name, call.raw_arguments, call.tool, ended) == ("echo", b"", original.tool, None)
    assert looked_up == []
    assert len(log) == 2


async def test_verdicts_at_the_limits_are_sent():
    _, ended, _ = await serve([plugin("p", before_call=lambda call: Reject("x", code=-(2**31), retry_after=2**31))])
    assert ended.error.code == -(2**31)
    upstreams = CallResult.failed(RpcError(2**40, "token"), upstream="one")
    plugins = [plugin("p", after_call=lambda call, result: result.replace_error("hidden", [1]))]
    _, _, result = await serve(plugins, result=upstreams)
    assert (result.error.code, result.error.message, result.error.data) == (2**40, "hidden", [1])
    assert (result.upstream, result.outcome) == ("one", "error")
    with pytest.raises(ValueError, match="no error"):
        make_result().replace_error("hidden")


def test_a_plugins_refusal_says_whether_the_call_was_executed():
    refused = CallResult.refused("no")
    assert (refused.error.code, refused.error.data, refused.outcome) == (REJECTED, {"source": "gateway"}, "refused")
    withheld = CallResult.refused("no", upstream="one")
    assert (withheld.error.message, withheld.upstream, withheld.outcome) == ("no", "one", "error")


async def _endless(*_):
    await asyncio.Event().wait()


async def test_an_after_call_that_hangs_is_ended(log, monkeypatch):
    monkeypatch.setattr(verdicts, "AFTER_TIMEOUT", 0.05)
    trace = []
    _, _, result = await serve([tracer(trace, "a"), plugin("slow", after_call=_endless)])
    assert result.error.code == PLUGIN_FAILED
    assert trace == ["a before", "a after error"]
    assert "took longer than 0.05 s" in log[0]["message"]


async def test_a_hook_that_waited_for_something_cancelled_has_failed_and_cancels_nothing(log):
    async def wait_for_cancelled(*_):
        task = asyncio.ensure_future(_endless())
        await asyncio.sleep(0)
        task.cancel()
        await task

    _, ended, _ = await serve([plugin("broken", before_call=wait_for_cancelled)])
    assert ended.error.code == PLUGIN_FAILED
    _, _, result = await serve([plugin("broken", after_call=wait_for_cancelled)])
    assert result.error.code == PLUGIN_FAILED
    assert "cancelled" in log[0]["message"]


async def test_cancellation_passes_through_before_and_the_passed_plugins_can_be_told():
    trace = []
    chain = Chain([tracer(trace, "a"), plugin("slow", before_call=_endless), tracer(trace, "c")])
    passed = ChainProgress()
    task = asyncio.ensure_future(chain.run_before(make_call(), lambda call: call, passed))
    await asyncio.sleep(0.01)
    assert passed.running == "slow"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await chain.run_after(passed, CallResult.failed(RpcError(-1, "cancelled"), Outcome.CANCELLED))
    assert trace == ["a before", "a after cancelled"]


async def test_cancellation_during_after_still_runs_the_other_hooks():
    trace = []
    chain = Chain([tracer(trace, "a"), plugin("slow", after_call=_endless), tracer(trace, "c")])
    passed = ChainProgress()
    await chain.run_before(make_call(), lambda call: call, passed)
    assert passed.running is None
    task = asyncio.ensure_future(chain.run_after(passed, make_result()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert trace == ["a before", "c before", "c after ok", "a after ok"]


# -- strategies ------------------------------------------------------------------------------------------------------

ONE, TWO = make_upstream("one"), make_upstream("two", order=1)


def test_hook_route_tool():
    seen = []

    def last(call, candidates):
        seen.append(call.name)
        return candidates[-1]

    assert Chain([plugin("p", route_tool=last)]).route_tool(make_call(), [ONE, TWO]) is TWO
    assert seen == ["echo"]


def test_route_tool_may_leave_the_choice_to_the_core():
    assert Chain([plugin("p", route_tool=lambda call, candidates: None)]).route_tool(make_call(), [ONE]) is None


def test_route_tool_has_the_plugins_state():
    def route(call, candidates):
        call.state["routed"] = True

    call = make_call()
    Chain([plugin("p", route_tool=route)]).route_tool(call, [ONE])
    assert call.seen_by("p").state == {"routed": True}


@pytest.mark.parametrize("hook", [boom, lambda *_: make_upstream("one"), lambda *_: "one", lambda *_: _endless()])
def test_a_failing_route_tool_refuses_the_call_or_leaves_it_to_the_core(log, hook):
    with pytest.raises(RpcError) as refused:
        Chain([plugin("p", route_tool=hook)]).route_tool(make_call(), [ONE, TWO])
    assert refused.value.code == PLUGIN_FAILED
    assert Chain([plugin("p", "ignore", route_tool=hook)]).route_tool(make_call(), [ONE, TWO]) is None
    assert len(log) == 2


@pytest.mark.parametrize("on_error", ["reject", "ignore"])
def test_arguments_that_a_route_tool_cannot_read_are_the_agents_fault(log, on_error):
    def by_path(call, candidates):
        return candidates[len(call.arguments["path"])]

    with pytest.raises(RpcError) as refused:
        Chain([plugin("p", on_error, route_tool=by_path)]).route_tool(replace(make_call(), **MALFORMED), [ONE, TWO])
    assert refused.value.code == INVALID_REQUEST
    assert log == []


def test_hook_resolve_conflict():
    conflict = make_conflict("search", ONE, TWO)
    chain = Chain([plugin("p", resolve_conflict=lambda conflict: {"found": conflict.claims[1]})])
    assert chain.resolve_conflict(conflict) == {"found": conflict.claims[1]}


@pytest.mark.parametrize(
    "names",
    [["search"], {"": 0}, {3: 0}, {"\ud800": 0}, {"search": "one"}, {"search": None}, _endless],
    ids=lambda names: ascii(name_of(names)),
)
def test_a_failing_resolve_conflict_leaves_it_to_the_core(log, names):
    conflict = make_conflict("search", ONE, TWO)

    def resolve(conflict):
        if callable(names):
            return names()
        if isinstance(names, dict):
            return {name: conflict.claims[0] if value == 0 else value for name, value in names.items()}
        return names

    assert Chain([plugin("p", resolve_conflict=resolve)]).resolve_conflict(conflict) is None
    assert "the tool 'search'" in log[0]["message"]


def test_a_claim_of_another_conflict_is_refused_however_equal(log):
    conflict, other = make_conflict("search", ONE), make_conflict("search", ONE)
    chain = Chain([plugin("p", resolve_conflict=lambda conflict: {"search": other.claims[0]})])
    assert chain.resolve_conflict(conflict) is None


# -- check_health ----------------------------------------------------------------------------------------------------


async def test_hook_check_health():
    async def sick(upstream):
        return Health(False, upstream.name)

    chain = Chain([plugin("a", check_health=lambda upstream: None), plugin("b", check_health=sick)])
    assert chain.has_health_check
    assert await chain.check_health(ONE) == Health(False, "one")
    assert await Chain([plugin("a", check_health=lambda upstream: None)]).check_health(ONE) is None


async def test_the_first_finding_counts():
    asked = []
    chain = Chain([plugin("a", check_health=lambda upstream: Health(True)), plugin("b", check_health=asked.append)])
    assert await chain.check_health(ONE) == Health(True)
    assert asked == []


@pytest.mark.parametrize(
    "hook",
    [boom, boom_later, lambda upstream: True, lambda upstream: Health("yes"), lambda upstream: Health(True, "\ud800")],
)
async def test_a_failing_check_finds_the_upstream_unhealthy_or_nothing(log, hook):
    health = await Chain([plugin("broken", check_health=hook)]).check_health(ONE)
    assert health == Health(False, "the plugin broken failed in check_health")
    assert await Chain([plugin("broken", "ignore", check_health=hook)]).check_health(ONE) is None
    assert "the upstream one" in log[0]["message"]


async def test_a_check_can_be_cancelled_by_its_timeout():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Chain([plugin("slow", check_health=_endless)]).check_health(ONE)


# -- start and stop --------------------------------------------------------------------------------------------------


class Living:
    def __init__(self, name, trace, enter=None, leave=None):
        self.name, self.trace, self.enter, self.leave = name, trace, enter, leave

    @hookimpl
    def before_call(self, call):
        pass

    async def __aenter__(self):
        if self.enter:
            await self.enter()
        self.trace.append(f"{self.name} in")

    async def __aexit__(self, *error):
        assert error == (None, None, None)
        if self.leave:
            await self.leave()
        self.trace.append(f"{self.name} out")


def living(name, trace, **more):
    return configured(Living(name, trace, **more), name=name)


async def test_plugins_are_entered_in_order_and_left_in_reverse():
    trace = []
    async with Chain([living("a", trace), plugin("plain", before_call=lambda call: None), living("b", trace)]):
        assert trace == ["a in", "b in"]
    assert trace == ["a in", "b in", "b out", "a out"]


async def test_a_plugin_that_cannot_start_is_named_and_the_others_are_left():
    trace = []
    with pytest.raises(PluginError, match="the plugin b could not start: ValueError: hush"):
        async with Chain([living("a", trace), living("b", trace, enter=boom_later), living("c", trace)]):
            pass
    assert trace == ["a in", "a out"]


@ENDS
@pytest.mark.parametrize("later", [False, True])
async def test_whatever_a_plugin_raises_at_start_is_a_start_that_failed(kind, later):
    trace = []
    with pytest.raises(PluginError, match=f"the plugin b could not start: {kind.__name__}: hush"):
        async with Chain([living("a", trace), living("b", trace, enter=raising(kind, later=later))]):
            pass
    assert trace == ["a in", "a out"]


@ENDS
async def test_whatever_a_plugin_raises_at_stop_does_not_keep_the_others(log, kind):
    trace = []
    async with Chain([living("a", trace), living("b", trace, leave=raising(kind, later=True))]):
        pass
    assert trace == ["a in", "b in", "a out"]
    assert len(log) == 1


async def test_an_exception_without_a_readable_text_is_named():
    class Mute(Exception):
        def __str__(self):
            raise Panic

    def leave():
        raise Mute

    with pytest.raises(PluginError, match=r"could not start: Mute$"):
        async with Chain([living("b", [], enter=leave)]):
            pass


async def cancelled(*plugins):
    """Cancel the life of a chain that is starting or stopping."""

    async def live():
        async with Chain(plugins):
            pass

    task = asyncio.ensure_future(live())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_start_that_is_cancelled_is_no_failure_of_the_plugin():
    trace = []
    await cancelled(living("a", trace), living("b", trace, enter=_endless))
    assert trace == ["a in", "a out"]


async def test_start_and_stop_are_bounded(log, monkeypatch):
    monkeypatch.setattr("gateway_core.hooks.lifecycle.LIFE_TIMEOUT", 0.05)
    trace = []
    with pytest.raises(PluginError, match=r"the plugin b could not start: took longer than 0\.05 s"):
        async with Chain([living("a", trace), living("b", trace, enter=_endless)]):
            pass
    async with Chain([living("c", trace), living("d", trace, leave=_endless)]):
        pass
    assert trace == ["a in", "a out", "c in", "d in", "c out"]
    assert "plugin d did not stop cleanly" in log[0]["message"]


async def test_a_plugin_that_fails_to_stop_does_not_keep_the_others(log):
    trace = []
    async with Chain([living("a", trace), living("b", trace, leave=boom_later)]):
        pass
    assert trace == ["a in", "b in", "a out"]
    assert "hush" not in log[0]["message"]


async def test_a_stop_that_is_cancelled_still_leaves_the_other_plugins():
    trace = []
    await cancelled(living("a", trace), living("b", trace, leave=_endless))
    assert trace == ["a in", "b in", "a out"]


# -- cost ------------------------------------------------------------------------------------------------------------


def test_the_chain_never_calls_through_pluggy(monkeypatch):
    import pluggy

    chain = Chain([plugin("p", route_tool=lambda call, candidates: None, resolve_conflict=lambda conflict: None)])
    called = []
    with monkeypatch.context() as patch:  # pytest itself lives on pluggy
        patch.setattr(pluggy.HookCaller, "__call__", lambda self, **arguments: called.append(self.name))
        chain.route_tool(make_call(), [ONE])
        chain.resolve_conflict(make_conflict())
    assert called == []


def test_the_chain_knows_every_hook():
    assert set(HOOKS) == {
        *("route_tool", "resolve_conflict", "before_call", "after_call", "check_health", "authenticate", "observe"),
        "trace_call",
    }


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((), ()),
        (["the disk is full", "x" * 2000], ("the disk is full", "x" * 1000)),
        ("one", ("one",)),
        ([7, "kept"], ("kept",)),
        (7, ("its warnings cannot be read: TypeError",)),
        (["x"] * 50, ("x",) * 20),
    ],
)
def test_the_warnings_of_a_plugin_are_bounded_and_cannot_hide_the_status(given, shown):
    class Warns:
        warnings = given

        @hookimpl
        def observe(self): ...

    assert configured(Warns()).warnings == shown
