"""The kit for plugin authors does what it says."""

import asyncio
import inspect
import re
import tomllib
from pathlib import Path

import pytest
from loguru import logger
from msgspec.structs import replace
from pydantic import ValidationError

from gateway_core import Answer, Ask, CallResult, PluginConfig, Published, Reject, UpstreamView, hookimpl
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.mcp.names import PLUGIN_METHODS, TASKS
from gateway_core.pipeline.delivery import Delivery
from gateway_core.testing import (
    FakeUpstream,
    FakeUser,
    configured,
    make_call,
    make_conflict,
    make_result,
    make_upstream,
    run_call,
    run_hook,
)


class Guard:
    class Config(PluginConfig):
        banned: str = "rm"

    def __init__(self, config):
        self.banned = config.banned

    @hookimpl
    def before_call(self, call):
        call.state["seen"] = True
        if call.name == self.banned:
            return Reject("no", retry_after=1.5)
        return call.replace(name="listed") if call.name == "ls" else None

    @hookimpl
    async def after_call(self, call):
        await asyncio.sleep(0)
        assert call.state["seen"]


def test_make_call_makes_a_tool_call_with_its_catalog_entry():
    call = make_call("add", {"a": 1}, annotations={"readOnlyHint": True}, upstreams=("one", "two"))
    assert call.arguments == {"a": 1}
    assert call.tool.upstreams == ("one", "two")
    assert call.tool.annotations == {"readOnlyHint": True}
    assert make_call("add", known=False).tool is None
    assert make_call("file:///x", method="resources/read").tool is None


def test_make_call_says_who_serves_the_name():
    call = make_call("b__add", upstreams=("b",), original_name="add")
    assert (call.upstreams, call.original_name, call.tool.original_name) == (("b",), "add", "add")
    read = make_call("file:///x", method="resources/read", upstreams=("one", "two"))
    assert (read.upstreams, read.original_name, read.kind) == (("one", "two"), "file:///x", "resource")
    assert make_call("file:///x", method="resources/read", known=False).upstreams == ()
    entry = Published("add", "add", ("one",))
    assert make_call("", method="tools/list", listed=[entry]).listed == {"add": entry}


def test_make_result_is_what_an_upstream_would_send():
    result = make_result("hello", is_error=True, upstream="one")
    assert result.content == {"content": [{"type": "text", "text": "hello"}], "isError": True}
    assert (result.upstream, result.outcome) == ("one", "tool_error")


def test_make_upstream_is_a_view():
    upstream = make_upstream("one", priority=3, healthy=False, group="fleet", in_flight=2, latency=0.5)
    assert isinstance(upstream, UpstreamView)
    assert (upstream.name, upstream.priority, upstream.healthy) == ("one", 3, False)
    assert (upstream.group, upstream.in_flight, upstream.latency) == ("fleet", 2, 0.5)


def test_make_conflict_takes_upstreams_and_groups_of_replicas():
    one, two, three = (make_upstream(name, order=order) for order, name in enumerate(["one", "two", "three"]))
    conflict = make_conflict("search", one, [two, three], kind="prompt", separator=".")
    assert [claim.upstreams for claim in conflict.claims] == [(one,), (two, three)]
    assert conflict.claims[0].definition != conflict.claims[1].definition
    assert (conflict.kind, conflict.qualified(conflict.claims[1])) == ("prompt", "two.search")
    assert make_conflict().clashes


def test_run_hook_runs_both_kinds_of_hooks_and_keeps_the_state():
    call = make_call()
    guard = Guard(Guard.Config())
    assert run_hook(guard, "before_call", call) is None
    assert run_hook(guard, "after_call", call, make_result()) is None
    assert run_hook(Guard, "before_call", make_call("rm")) == Reject("no", retry_after=1.5)


async def test_run_call_goes_through_the_plugins_to_the_upstream():
    upstream = FakeUpstream()
    assert (await run_call(make_call("ls"), upstream, Guard)).content["content"][0]["text"] == "ok"
    refused = await run_call(make_call("rm"), upstream, Guard)
    assert (refused.error.message, refused.error.data["retryAfterMs"]) == ("no", 1500)
    assert [call.name for call in upstream.calls] == ["listed"]
    assert upstream.calls[0].tool.name == "listed"


class Careful:
    @hookimpl
    def before_call(self, call):
        answer = call.answers.get("why")
        if answer is None:
            return Ask("why?", schema={"type": "object", "properties": {"why": {"type": "string"}}}, name="why")
        return None if answer.accepted else Reject(f"no: {answer.action}")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_run_call_asks_a_user_and_goes_on_with_the_answer(era):
    user, upstream = FakeUser(Answer("accept", {"why": "so"}), Answer("decline")), FakeUpstream()
    call = make_call("add", {"a": 1}, era=era)
    assert (await run_call(call, upstream, Guard, Careful, user=user)).error is None
    assert [call.arguments for call in upstream.calls] == [{"a": 1}]
    assert user.asked[0]["message"] == "why?"
    assert list(user.asked[0]["requestedSchema"]["properties"]) == ["why"]
    refused = await run_call(call, upstream, Guard, Careful, user=user)
    assert refused.error.message == "no: decline"
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_without_a_user_the_agent_cannot_be_asked(era):
    refused = await run_call(make_call(era=era), FakeUpstream(), Careful)
    assert refused.error.data["requiredCapabilities"] == {"elicitation": {"form": {}}}


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_question_too_many_is_a_mistake_in_the_test(era):
    with pytest.raises(AssertionError, match="no answer to question 1"):
        await run_call(make_call(era=era), FakeUpstream(), Careful, user=FakeUser())


def test_make_call_brings_answers_to_a_hook():
    call = make_call("add", {"a": 1}, session="s", answers={"why": Answer("accept", {"why": "so"})})
    assert run_hook(Careful, "before_call", call) is None
    assert call.answers["why"].content == {"why": "so"}
    assert call.session == "s"
    assert isinstance(run_hook(Careful, "before_call", make_call("add")), Ask)


async def test_run_call_takes_configured_plugins_and_instances():
    upstream = FakeUpstream()
    assert (await run_call(make_call("ls"), upstream, configured(Guard, banned="ls"))).error is not None
    assert (await run_call(make_call("rm"), upstream, Guard(Guard.Config(banned="ls")))).error is None


async def test_a_fake_upstream_answers_as_it_is_told():
    result = make_result("whole")
    error = RpcError(-32602, "wrong")
    assert await run_call(make_call(), FakeUpstream(result)) is result
    assert (await run_call(make_call(), FakeUpstream(error))).error is error
    echo = FakeUpstream(lambda call: CallResult.of({"structuredContent": dict(call.arguments)}))
    assert (await run_call(make_call(arguments={"a": 1}), echo)).content == {"structuredContent": {"a": 1}}


async def test_a_fake_upstream_may_give_a_large_answer():
    result = await run_call(make_call(), FakeUpstream("x" * 300_000))
    assert result.content["content"][0]["text"] == "x" * 300_000


@pytest.fixture
def log():
    seen = []
    handler = logger.add(lambda message: seen.append(message.record), level="INFO")
    yield seen
    logger.remove(handler)


class Watcher:
    """Keeps what its after_call saw."""

    def __init__(self, config=None):
        self.calls, self.results = [], []

    @hookimpl
    def after_call(self, call, result):
        self.calls.append(call)
        self.results.append(result)


class Renamer(Watcher):
    @hookimpl
    def before_call(self, call):
        return call.replace(name="renamed", arguments={"a": 2})


async def test_run_call_is_the_gateways_pipeline(monkeypatch):
    """What breaks the pipeline breaks `run_call`, too."""
    seen = []

    async def serve(self):
        seen.append(self.exchange.method)
        raise RpcError(-1, "broken")

    monkeypatch.setattr(Delivery, "_serve", serve)
    upstream = FakeUpstream()
    assert (await run_call(make_call(), upstream, Guard)).error.message == "broken"
    assert (seen, upstream.calls) == (["tools/call"], [])


async def test_run_call_shows_plugins_the_call_that_was_made():
    given = make_call("add", {"a": 1}, annotations={"readOnlyHint": True}, era="legacy", principal="me@here")
    given = replace(given, raw_meta=b'{"k":1}', exchange_id="e7")
    watcher = Watcher()
    upstream = FakeUpstream()
    await run_call(given, upstream, watcher)
    assert upstream.calls == [given]
    (seen,) = watcher.calls
    for member in ("method", "name", "principal", "era", "exchange_id", "raw_arguments", "raw_meta", "tool"):
        assert getattr(seen, member) == getattr(given, member)


async def test_run_call_looks_up_a_renamed_tool_and_refuses_an_unknown_one():
    upstream, renamer = FakeUpstream(), Renamer()
    await run_call(make_call("echo", {"a": 1}), upstream, renamer)
    (call,) = upstream.calls
    assert (call.name, call.tool.name, dict(call.arguments)) == ("renamed", "renamed", {"a": 2})
    assert renamer.calls[0].tool is call.tool
    watcher = Watcher()
    unknown = await run_call(make_call("nothing", known=False), upstream, watcher)
    assert (unknown.error.code, unknown.error.message) == (INVALID_PARAMS, "Unknown tool: nothing")
    assert watcher.results == [unknown]
    assert len(upstream.calls) == 1
    assert (await run_call(make_call("nothing", known=False), upstream, Renamer)).error is None


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("method", sorted(PLUGIN_METHODS))
async def test_run_call_serves_every_method(method, era):
    class Every(Watcher):
        methods = frozenset({method})

    upstream, every = FakeUpstream(), Every()
    result = await run_call(make_call("it", {"a": 1}, method=method, era=era), upstream, every)
    assert [call.method for call in every.calls] == [method] * (result.error is None)
    if method in TASKS and era == "legacy":
        assert result.error is not None, "agents of that era have no such tasks"
    else:
        assert result.error is None
        assert [(call.name, dict(call.arguments)) for call in upstream.calls] == [("it", {"a": 1})]


async def test_run_call_ends_at_the_deadline_of_the_call():
    class Slow(Watcher):
        @hookimpl
        async def before_call(self, call):
            await asyncio.Event().wait()

    watcher, upstream = Watcher(), FakeUpstream()
    late = await run_call(make_call(), upstream, watcher, configured(Slow, name="slow"), timeout=0.05)
    assert late.error.message == "plugin slow did not decide in time"
    assert (watcher.results, upstream.calls) == ([late], [])
    watcher, upstream = Watcher(), FakeUpstream(delay=60)
    lost = await run_call(make_call(), upstream, watcher, timeout=0.05)
    assert lost.outcome == "unknown"
    text = lost.content["content"][0]["text"]
    assert "upstream upstream got the call and did not answer (timed out after 0.05 s without an answer" in text
    assert "the key timeout sets this)" in text
    assert (watcher.results, len(upstream.calls)) == ([lost], 1)


async def test_run_call_can_be_cancelled_and_after_call_sees_it():
    watcher, upstream = Watcher(), FakeUpstream(delay=60)
    running = asyncio.ensure_future(run_call(make_call(), upstream, watcher))
    while not upstream.calls:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [result.outcome for result in watcher.results] == ["cancelled"]


async def test_run_call_writes_the_access_log(log):
    await run_call(make_call("ls"), FakeUpstream(), Guard)
    await run_call(make_call("rm"), FakeUpstream(), Guard)
    assert [record["message"] for record in log] == ["tools/call listed", "tools/call rm"]
    assert [record["extra"]["outcome"] for record in log] == ["ok", "refused"]
    assert {record["extra"]["agent"] for record in log} == {"agent@127.0.0.1"}


async def test_run_call_refuses_what_the_pipeline_refuses():
    upstream = FakeUpstream()
    malformed = replace(make_call(), raw_arguments=b"[1]")
    assert (await run_call(malformed, upstream, Guard)).error.code == INVALID_PARAMS
    assert upstream.calls == []
    senseless = CallResult.of({"resultType": "weird"})
    assert "resultType" in (await run_call(make_call(), FakeUpstream(senseless))).error.message


async def test_a_mistake_in_the_answer_of_a_fake_upstream_is_the_tests():
    def answer(call):
        assert call.name == "other"

    watcher = Watcher()
    with pytest.raises(AssertionError):
        await run_call(make_call(), FakeUpstream(answer), watcher)
    assert watcher.results[0].error is not None


def test_configured_refuses_wrong_settings():
    with pytest.raises(ValidationError):
        configured(Guard, forbidden="x")
    with pytest.raises(TypeError):
        configured(Guard(Guard.Config()), banned="x")
    assert configured(Guard, name="guard", on_error="ignore").on_error == "ignore"


# -- docs/writing-a-plugin.md ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documented():
    """What the Python blocks of the page define, run one after the other as one module."""
    page = (Path(__file__).parents[2] / "docs" / "writing-a-plugin.md").read_text()
    namespace = {"__name__": "documented"}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        alone = block.replace("from gateway_night_watch.plugin import NightWatch\n", "")  # defined by an earlier block
        exec(compile(alone, "writing-a-plugin.md", "exec"), namespace)
    return namespace


def test_the_documented_tests_pass(documented):
    tests = [function for name, function in documented.items() if name.startswith("test_")]
    assert len(tests) == 4
    for test in tests:
        ended = test()
        if inspect.isawaitable(ended):
            asyncio.run(ended)


def test_the_documented_plugins_work(documented):
    busy, idle = make_upstream("busy", in_flight=3), make_upstream("idle")
    assert run_hook(documented["LeastBusy"], "route_tool", make_call(), [busy, idle]) is idle
    in_turn = configured(documented["LeastBusyInTurn"]).instance
    rested = make_upstream("rested")
    assert [run_hook(in_turn, "route_tool", make_call(), [busy, idle, rested]).name for _ in range(3)] == [
        "idle",
        "rested",
        "idle",
    ]
    assert run_hook(documented["SmallCalls"], "before_call", make_call()) is None
    small = configured(documented["SmallCalls"], max_bytes=2).instance
    assert run_hook(small, "before_call", make_call(arguments={"a": 1})) == Reject("7 bytes of arguments are too many")
    assert asyncio.run(run_call(make_call(), FakeUpstream(), documented["SlowCalls"])).error is None


def test_the_documented_files_are_toml():
    page = (Path(__file__).parents[2] / "docs" / "writing-a-plugin.md").read_text()
    project, configuration = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
    assert project["project"]["entry-points"]["gateway_core"] == {
        "night_watch": "gateway_night_watch.plugin:NightWatch"
    }
    assert configuration["mcp"]["proxy"]["plugins"][0]["name"] == "night_watch"
