"""The path of a call, over a real server of the official SDK in a process of its own."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from msgspec import Raw

from gateway_core import Ask, Call, CallResult, Reject, hookimpl
from gateway_core.api import Era, Outcome, Principal
from gateway_core.catalog import Catalog
from gateway_core.concealing import HeldSecrets, Secret
from gateway_core.config import LimitsConfig, OverrideConfig, ProfileConfig, ProxyConfig, UpstreamConfig
from gateway_core.errors import HEADER_MISMATCH, INVALID_PARAMS, REJECTED, RESOURCE_NOT_FOUND_LEGACY
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.hooks import Chain, LoadedPlugin
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.sdk import SDK
from gateway_core.pipeline.input_required import InputRequired
from gateway_core.pipeline.pipeline import Pipeline
from gateway_core.pipeline.router import Router
from gateway_core.sealing import Seal
from gateway_core.upstream.health import HealthMonitor
from gateway_core.upstream.pool import UpstreamPool
from gateway_core.upstream.upstream import Upstream

REFLECTOR = Path(__file__).parents[1].joinpath("servers") / "reflector.py"


class World:
    """A pipeline over the reflector, with the plugins of the test."""

    def __init__(self, url: str, *plugins: object, **settings: Any) -> None:
        mirror = UpstreamConfig(name="mirror", transport="http", url=url, **settings.pop("upstream", {}))
        self.config = ProxyConfig(upstreams=(mirror,), **settings)
        loaded = [
            LoadedPlugin(f"plugin{n}", plugin, "1", "d", (), "reject", getattr(plugin, "methods", CALLS))
            for n, plugin in enumerate(plugins)
        ]
        chain = Chain(loaded)
        self.pool = UpstreamPool(self.config)
        self.catalog = Catalog(self.config, self.pool.upstreams, chain.resolve_conflict, Seal())
        self.health = HealthMonitor(self.pool.upstreams, chain, self.catalog.rebuild)
        router = Router(chain, InputRequired(self.config, Seal()))
        self.pipeline = Pipeline(
            self.config,
            self.catalog,
            router,
            chain,
            self.health.wait_first_lists,
            clean=HeldSecrets([Secret("test", "hush-hush")]).clean,
        )

    def exchange(self, method: str, era: Era = "modern") -> Exchange:
        version = "2026-07-28" if era == "modern" else "2025-11-25"
        return Exchange(Agent(Principal("agent@test"), era, version), method)

    async def ask(self, method: str, params: dict[str, Any] | None = None, era: Era = "modern") -> CallResult:
        """Have a request served as an agent's is: promoted only where it needs a task."""
        exchange, members = self.exchange(method, era), jsonrpc.members(jsonrpc.encode(params or {}))
        running = self.pipeline.begin(exchange, members)
        ended = asyncio.get_running_loop().create_future()
        running.add_done_callback(lambda _: ended.set_result(None))
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            running.cancel()
            await ended
        return running.result()

    async def tool(self, tool: str, era: Era = "modern", meta: Any = None, **arguments: Any) -> CallResult:
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if meta is not None:
            params["_meta"] = meta
        return await self.ask("tools/call", params, era)


CALLS = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})
Start = Callable[..., Awaitable[World]]


def text(result: CallResult) -> str:
    assert result.error is None, result.error
    return str(result.content["content"][0]["text"])


@pytest.fixture(scope="module")
def reflector() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, str(REFLECTOR)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
async def start(reflector: str) -> AsyncIterator[Start]:
    worlds: list[World] = []

    async def begin(*plugins: object, **settings: Any) -> World:
        world = World(reflector, *plugins, **settings)
        worlds.append(world)
        world.health.start()
        await world.health.wait_first_attempts(20)
        return world

    yield begin
    for world in worlds:
        await world.health.stop()
        await world.pool.close()


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_every_method_reaches_its_upstream(start: Start, era: Era) -> None:
    world = await start()
    assert json.loads(text(await world.tool("reflect", era, value=[1, "ä"])))["value"] == [1, "ä"]
    listed = (await world.ask("tools/list", era=era)).content
    assert {"reflect", "sleep", "fail"} <= {tool["name"] for tool in listed["tools"]}
    assert ("resultType" in listed) is (era == "modern")
    read = await world.ask("resources/read", {"uri": "note://today"}, era)
    assert read.content["contents"][0]["text"] == "sunny"
    read = await world.ask("resources/read", {"uri": "note://by/monday"}, era)
    assert read.content["contents"][0]["text"] == "weather of monday"
    prompt = await world.ask("prompts/get", {"name": "greet", "arguments": {"name": "Ada"}}, era)
    assert prompt.content["messages"][0]["content"]["text"] == "Greet Ada"
    templates = await world.ask("resources/templates/list", era=era)
    assert templates.content["resourceTemplates"][0]["uriTemplate"] == "note://by/{day}"


@pytest.mark.parametrize("method", ["tools/list", "tools/call"])
async def test_only_who_waited_for_upstreams_after_the_start_looks_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    world = await start()
    prepared: list[str] = []

    async def prepare(exchange: Exchange) -> None:
        prepared.append(exchange.method)

    waits = [False, True]

    async def wait(target: Sequence[Upstream], *, listing: bool) -> bool:
        assert (list(target), listing) == ([], method == "tools/list")
        return waits.pop()

    monkeypatch.setattr(world.catalog, "prepare", prepare)
    monkeypatch.setattr(world.pipeline, "wait_first_lists", wait)
    await world.ask(method, {"name": "unknown"})
    assert prepared == [method] * 2
    await world.ask(method, {"name": "unknown"})
    assert prepared == [method] * 3


async def test_a_tool_is_reached_by_its_upstreams_name_too(start: Start) -> None:
    world = await start(upstream={"tools": ("reflect",)})
    assert text(await world.tool("mirror:reflect"))
    for name in ("mirror:sleep", "sleep", "other:reflect", "mirror:", ":reflect"):
        assert (await world.tool(name)).error.code == INVALID_PARAMS  # type: ignore[union-attr]


async def test_big_integers_arrive_unaltered(start: Start) -> None:
    world = await start()
    huge = 123456789012345678901234567890
    assert json.loads(text(await world.tool("reflect", value=huge)))["value"] == huge


async def test_meta_keys_of_one_hop_stay_there_and_the_others_pass(start: Start) -> None:
    world = await start()
    meta = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
        "com.example/own": {"a": 1},
        "io.modelcontextprotocol/clientInfo": {"name": "agent", "version": "9"},
        "io.modelcontextprotocol/unknown": True,
        "progressToken": "mine",
    }
    seen = json.loads(text(await world.tool("reflect", meta=meta)))["meta"]
    assert seen["traceparent"] == meta["traceparent"]
    assert seen["com.example/own"] == {"a": 1}
    assert seen["dev.radium.gateway/idempotencyKey"]
    assert "io.modelcontextprotocol/unknown" not in seen
    assert seen.get("io.modelcontextprotocol/clientInfo", {}).get("name") != "agent"
    assert seen.get("progressToken", seen.get("progress_token")) != "mine"


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("tools/call", {"name": "nobody"}, INVALID_PARAMS),
        ("tools/call", {}, INVALID_PARAMS),
        ("tools/call", {"name": 5}, INVALID_PARAMS),
        ("tools/call", {"name": "reflect", "_meta": 5}, INVALID_PARAMS),
        ("tools/list", {"cursor": 5}, INVALID_PARAMS),
        ("tools/call", {"name": "reflect", "arguments": [1]}, INVALID_PARAMS),
        ("prompts/get", {"name": "nobody"}, INVALID_PARAMS),
        ("tools/list", {"cursor": "forged"}, INVALID_PARAMS),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "nobody"}, "argument": {}}, INVALID_PARAMS),
        ("completion/complete", {"ref": {"type": "ref/else"}}, INVALID_PARAMS),
    ],
)
async def test_wrong_params_are_the_agents_error(start: Start, method: str, params: Any, code: int) -> None:
    world = await start()
    result = await world.ask(method, params)
    assert result.error is not None
    assert result.error.code == code
    assert world.pool.upstreams[0].errors == 0


async def test_a_resource_that_is_not_there_has_its_eras_code(start: Start) -> None:
    world = await start()
    for era, code in (("legacy", RESOURCE_NOT_FOUND_LEGACY), ("modern", INVALID_PARAMS)):
        result = await world.ask("resources/read", {"uri": "note://nothing/at/all"}, era)  # type: ignore[arg-type]
        assert result.error is not None
        assert result.error.code == code


async def test_lists_come_in_pages_with_cursors_of_the_gateway(start: Start) -> None:
    world = await start(limits=LimitsConfig(page_size=2))
    names: list[str] = []
    params: dict[str, Any] = {}
    for _ in range(10):
        page = (await world.ask("tools/list", params)).content
        names += [tool["name"] for tool in page["tools"]]
        if "nextCursor" not in page:
            break
        params = {"cursor": page["nextCursor"]}
    assert len(names) == len(set(names)) == 6
    other = await world.ask("prompts/list", params)
    assert other.error is not None, "a cursor of another list"


async def test_a_tools_own_error_is_a_result(start: Start) -> None:
    world = await start()
    result = await world.tool("fail")
    assert (result.error, result.outcome) == (None, Outcome.TOOL_ERROR)
    assert world.pool.upstreams[0].facts.state == "healthy"


async def test_a_call_that_is_too_slow_ends_unknown_and_is_cancelled_upstream(start: Start) -> None:
    world = await start(upstream={"timeout": 1.5})
    result = await world.tool("sleep", seconds=30, tag="late")
    assert result.outcome is Outcome.UNKNOWN
    assert result.content["isError"] is True
    await asyncio.sleep(0.1)
    assert "(timed out after 1.5 s without an answer or progress; the key timeout sets this)" in text(result)
    assert "late" in text(await world.tool("cancellations"))


async def test_progress_keeps_a_call_alive_up_to_the_hard_maximum(start: Start) -> None:
    world = await start(upstream={"timeout": 1.5}, timeout=1.5, max_timeout=4.5)
    assert text(await world.tool("steps", count=4, pause=0.5)) == "done"
    begun = asyncio.get_running_loop().time()
    result = await world.tool("steps", count=100, pause=0.1)
    assert result.outcome is Outcome.UNKNOWN, "it would have gone on for ten seconds"
    assert "(timed out after 4.5 s; the key max_timeout sets this)" in text(result)
    assert asyncio.get_running_loop().time() - begun > 4.0


async def test_progress_carries_the_agents_own_token(start: Start) -> None:
    world = await start()
    seen: list[tuple[str, Any]] = []

    class Back:
        def notify(self, method: str, params: bytes) -> None:
            seen.append((method, json.loads(params)))

        async def ask(self, method: str, params: bytes) -> bytes:
            raise AssertionError

    exchange = world.exchange("tools/call")
    exchange.back = Back()
    exchange.progress_token = b'"tok"'
    params = {"name": "steps", "arguments": {"count": 3, "pause": 0.01}}
    await world.pipeline.call(exchange, jsonrpc.members(jsonrpc.encode(params)))
    assert [(m, p["progressToken"], p["progress"]) for m, p in seen] == [
        ("notifications/progress", "tok", n) for n in (1, 2, 3)
    ]


class Diary:
    """A plugin that writes down what it sees, and does as told."""

    def __init__(self, verdict: Any = None, methods: frozenset[str] = CALLS) -> None:
        self.verdict, self.methods, self.seen = verdict, methods, []

    @hookimpl
    def before_call(self, call: Call) -> Any:
        self.seen.append(f"before {call.name} {call.tool.name if call.tool else None}")
        return self.verdict(call) if callable(self.verdict) else self.verdict

    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> None:
        self.seen.append(f"after {result.outcome}")


async def test_a_rewritten_call_is_looked_up_again(start: Start) -> None:
    plugin = Diary(lambda call: call.replace(name="reflect", arguments={"value": 7}))
    later = Diary()
    world = await start(plugin, later)
    assert json.loads(text(await world.tool("fail")))["value"] == 7
    assert later.seen == ["before reflect reflect", "after ok"]


async def test_a_refusal_reaches_no_upstream_and_tells_when_to_come_back(start: Start) -> None:
    earlier, plugin, later = Diary(), Diary(Reject("not now", retry_after=1.5)), Diary()
    world = await start(earlier, plugin, later)
    result = await world.tool("reflect")
    assert result.error is not None
    assert (result.error.code, result.error.message) == (REJECTED, "not now")
    assert result.error.data == {"source": "gateway", "retryAfterMs": 1500}
    assert (earlier.seen[-1], later.seen) == ("after refused", [])
    assert world.pool.upstreams[0].calls == 0


async def test_a_refusal_may_carry_data_but_not_replace_what_the_gateway_says(start: Start) -> None:
    data = {"limits": [1], "code": 5, "message": "no", "source": "upstream", "retryAfterMs": 7}
    world = await start(Diary(Reject("not now", retry_after=1.5, data=data)))
    error = (await world.tool("reflect")).error
    assert error is not None
    assert (error.code, error.message) == (REJECTED, "not now")
    assert error.data == {"limits": [1], "code": 5, "message": "no", "source": "gateway", "retryAfterMs": 1500}
    assert hash(Reject("not now", data=data)) == hash(Reject("not now"))


async def test_a_plugin_answers_in_the_upstreams_place(start: Start) -> None:
    world = await start(Diary(CallResult.text("cached")))
    assert text(await world.tool("reflect")) == "cached"
    assert world.pool.upstreams[0].calls == 0


async def test_a_call_to_an_unknown_name_is_still_shown_to_plugins(start: Start) -> None:
    plugin = Diary()
    world = await start(plugin)
    await world.tool("nobody")
    assert plugin.seen == ["before nobody None", "after error"]


async def test_an_explicitly_named_tool_is_the_same_tool_to_plugins(start: Start) -> None:
    plugin = Diary()
    world = await start(plugin)
    await world.tool("mirror:reflect")
    assert plugin.seen[0] == "before mirror:reflect reflect"


class Lists:
    """Keeps the calls of list methods."""

    methods = frozenset({"tools/list", "prompts/list", "resources/list", "resources/templates/list"})

    def __init__(self) -> None:
        self.calls: list[Call] = []

    @hookimpl
    def before_call(self, call: Call) -> None:
        self.calls.append(call)


async def test_plugins_see_who_serves_each_name_of_a_list(start: Start) -> None:
    plugin = Lists()
    world = await start(plugin)
    for method in sorted(Lists.methods):
        listed = (await world.ask(method)).content
        names = {entry.get("uriTemplate") or entry.get("uri") or entry["name"] for entry in next(iter(listed.values()))}
        call = plugin.calls[-1]
        assert set(call.listed) == names
        assert all(call.listed[name].upstreams == ("mirror",) for name in names)
        assert call.upstreams == ()
    await world.ask("tools/list")
    await world.ask("tools/list")
    assert plugin.calls[-1].listed is plugin.calls[-2].listed, "the same object until the list changes"


async def test_plugins_see_which_upstreams_can_get_a_call_of_any_method(start: Start) -> None:
    calls: list[Call] = []
    world = await start(Diary(calls.append))
    await world.tool("mirror:reflect")
    await world.ask("resources/read", {"uri": "note://today"})
    await world.tool("nobody")
    assert [(call.name, call.original_name, call.upstreams) for call in calls] == [
        ("mirror:reflect", "reflect", ("mirror",)),
        ("note://today", "note://today", ("mirror",)),
        ("nobody", "nobody", ()),
    ]


async def test_cancellation_tells_the_upstream_and_every_plugin(start: Start) -> None:
    plugin = Diary()
    world = await start(plugin)
    task = asyncio.create_task(world.tool("sleep", seconds=30, tag="gone"))
    async with asyncio.timeout(5):
        while not world.pool.upstreams[0].facts.in_flight:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert plugin.seen[-1] == "after cancelled"
    await asyncio.sleep(0.1)
    assert "gone" in text(await world.tool("cancellations"))
    assert world.pipeline.in_flight == 0


async def test_a_plugin_that_names_lists_can_hide_tools(start: Start) -> None:
    class Hide:
        methods = frozenset({"tools/list"})

        @hookimpl
        def after_call(self, call: Call, result: CallResult) -> CallResult:
            content = dict(result.content)
            content["tools"] = [tool for tool in content["tools"] if tool["name"] == "reflect"]
            return result.replace(content)

    world = await start(Hide())
    assert [tool["name"] for tool in (await world.ask("tools/list")).content["tools"]] == ["reflect"]


async def test_payloads_that_no_plugin_reads_are_never_decoded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    class Indifferent:
        after_call_reads_arguments = False

        @hookimpl
        def before_call(self, call: Call) -> None:
            return None

        @hookimpl
        def after_call(self, call: Call) -> None:
            return None

    world = await start(Indifferent())

    def fail(raw: Raw | bytes) -> Any:
        raise AssertionError("a payload was decoded")

    monkeypatch.setattr(jsonrpc, "value", fail)
    result = await world.tool("reflect", value={"deep": [1, 2]})
    monkeypatch.undo()
    assert json.loads(text(result))["value"] == {"deep": [1, 2]}


async def test_calls_that_are_ended_get_an_answer_that_is_true(start: Start) -> None:
    world = await start()
    call = asyncio.create_task(world.tool("sleep", seconds=30, tag="ended"))
    async with asyncio.timeout(5):
        while not world.pool.upstreams[0].facts.in_flight:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    world.pipeline.end_all("the gateway is stopping")
    result = await call
    assert result.outcome is Outcome.UNKNOWN
    assert "the gateway is stopping" in text(result)


async def test_a_bug_ends_its_call_only_and_its_text_reaches_no_log(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await start()
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)))

    def broken(*_: Any) -> Any:
        raise ValueError("-".join(("canary", "secret")))  # a log shows source lines, which hold no payload

    monkeypatch.setattr("gateway_core.pipeline.delivery.request_for", broken)
    result = await world.tool("reflect", value=1)
    monkeypatch.undo()
    logger.remove(sink)
    assert result.error is not None
    assert "a bug in the gateway: ValueError" in "".join(lines)
    assert "canary-secret" not in "".join(lines) + result.error.message
    assert text(await world.tool("reflect", value=1))


async def test_no_failure_shows_a_secret_of_the_gateway(start: Start) -> None:
    class Refuses:
        @hookimpl
        def before_call(self, call: Call) -> Reject | CallResult | None:
            verdicts = {
                "error": Reject("no hush-hush, sorry"),
                "result": CallResult.text("no hush-hush, sorry", is_error=True),
            }
            return verdicts.get(str(call.arguments.get("value")))

    world = await start(Refuses())
    refused = await world.tool("reflect", value="error")
    assert refused.error is not None
    assert refused.error.message == "no [REDACTED], sorry"
    assert text(await world.tool("reflect", value="result")) == "no [REDACTED], sorry"
    unknown = (await world.tool("hush-hush")).error
    assert unknown is not None
    assert "hush-hush" not in unknown.message


class Verdict:
    """A plugin with one verdict on every call."""

    def __init__(self, verdict: Callable[[Call], Call | Reject | CallResult | Ask | None]) -> None:
        self.verdict = verdict

    @hookimpl
    def before_call(self, call: Call) -> Call | Reject | CallResult | Ask | None:
        return self.verdict(call)


async def weather(world: World, region: str, name: str = "weather") -> CallResult:
    """A call with a header that says `eu`."""
    agent = Agent(Principal("agent@test"), "modern", "2026-07-28", capabilities=b'{"elicitation":{}}')
    exchange = Exchange(agent, "tools/call", headers=(("mcp-param-region", "eu"),))
    params = {"name": name, "arguments": {"region": region}}
    return await world.pipeline.call(exchange, jsonrpc.members(jsonrpc.encode(params)))


async def test_a_header_that_contradicts_an_argument_does_not_reveal_a_hidden_tool(start: Start) -> None:
    world = await start(Verdict(CallResult.unknown))
    hidden, unknown = (await weather(world, "us")).error, (await weather(world, "us", "missing")).error
    assert hidden is not None
    assert unknown is not None
    assert (hidden.code, hidden.message) == (INVALID_PARAMS, "Unknown tool: weather")
    assert (hidden.code, hidden.data) == (unknown.code, unknown.data)


@pytest.mark.parametrize(
    "verdict",
    [
        lambda call: None,
        lambda call: Ask("May it?"),
        lambda call: CallResult.text("from a cache"),
        lambda call: call.replace(arguments={"region": "eu"}),
    ],
    ids=["passes", "asks", "answers", "rewrites"],
)
async def test_a_header_that_contradicts_an_argument_is_refused_after_the_plugins(start: Start, verdict: Any) -> None:
    world = await start(Verdict(verdict))
    mismatch = (await weather(world, "us")).error
    assert mismatch is not None
    assert mismatch.code == HEADER_MISMATCH
    matching = await weather(world, "eu")
    assert matching.error is None


async def test_without_a_plugin_a_header_is_compared_too(start: Start) -> None:
    world = await start()
    mismatch = (await weather(world, "us")).error
    assert mismatch is not None
    assert mismatch.code == HEADER_MISMATCH
    assert text(await weather(world, "eu")) == "sunny in eu"


# -- profiles -------------------------------------------------------------------------------------------------------

DESK = ProfileConfig(
    name="desk",
    tools=("mirror:*", "!*sleep*"),
    overrides=(
        OverrideConfig(tool="reflect", name="show", fixed={"value": "set"}),
        OverrideConfig(tool="weather", fixed={"region": "eu"}),
        OverrideConfig(tool="steps", name="count", defaults={"pause": 0.0}),
    ),
)


class Desk:
    """Calls of an agent of the profile `desk`."""

    def __init__(self, world: World, era: Era, headers: tuple[tuple[str, str], ...] | None = None) -> None:
        self.world, self.era, self.headers = world, era, headers

    async def ask(self, method: str, params: dict[str, Any]) -> CallResult:
        version = "2026-07-28" if self.era == "modern" else "2025-11-25"
        agent = Agent(Principal("agent@test", profile="desk"), self.era, version)
        exchange = Exchange(agent, method, headers=self.headers)
        return await self.world.pipeline.call(exchange, jsonrpc.members(jsonrpc.encode(params)))

    async def call(self, tool: str, **arguments: Any) -> CallResult:
        return await self.ask("tools/call", {"name": tool, "arguments": arguments})


class Seen:
    """Notes the calls that it sees, and rewrites some."""

    methods = frozenset({"tools/call", "tools/list"})

    def __init__(self, rewrite: Callable[[Call], Call | None] = lambda call: None) -> None:
        self.calls: list[Call] = []
        self.rewrite = rewrite

    @hookimpl
    def before_call(self, call: Call) -> Call | None:
        self.calls.append(call)
        return self.rewrite(call)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_plugins_see_real_names_and_complete_arguments(start: Start, era: Era) -> None:
    seen = Seen()
    desk = Desk(await start(seen, profiles=(DESK,)), era)
    for _ in range(2):  # looked up, and by a plan
        assert json.loads(text(await desk.call("show")))["value"] == "set"
        call = seen.calls[-1]
        assert call.tool is not None
        assert (call.name, call.tool.name, call.original_name) == ("show", "reflect", "reflect")
        assert call.arguments == {"value": "set"}
        assert call.principal.profile == "desk"
    await desk.ask("tools/list", {})
    listed = seen.calls[-1].listed
    assert {name: published.name for name, published in listed.items()}["show"] == "reflect"
    assert "sleep" not in listed


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_fixed_argument_cannot_be_given_and_a_default_can(start: Start, era: Era) -> None:
    desk = Desk(await start(profiles=(DESK,)), era)
    for _ in range(2):
        refused = await desk.call("show", value="other")
        assert refused.error is not None
        assert refused.error.code == INVALID_PARAMS
        assert refused.error.message == (
            "the argument 'value' is set by the gateway and cannot be given; send the call without it"
        )
    assert text(await desk.call("count", count=1)) == "done"
    wrong = await desk.call("count", count=1, pause="text")  # so it was passed on
    assert wrong.content["isError"] is True


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("name", ["sleep", "mirror:sleep", "reflect", "mirror:none"])
async def test_a_hidden_tool_and_an_unknown_one_get_the_same_answer(start: Start, era: Era, name: str) -> None:
    desk = Desk(await start(profiles=(DESK,)), era)
    hidden, unknown = await desk.call(name), await desk.call("nothing")
    assert hidden.error is not None
    assert unknown.error is not None
    assert (hidden.error.code, hidden.outcome) == (unknown.error.code, unknown.outcome)
    assert hidden.error.message == f"Unknown tool: {name}"
    assert hidden.error.data == unknown.error.data


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("prompts/get", {"name": "greet", "arguments": {"name": "a"}}),
        ("prompts/get", {"name": "mirror:greet", "arguments": {"name": "a"}}),
        ("resources/read", {"uri": "note://today"}),
        ("resources/read", {"uri": "note://by/a"}),
        ("resources/subscribe", {"uri": "note://today"}),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "a", "value": ""}},
        ),
        (
            "completion/complete",
            {"ref": {"type": "ref/resource", "uri": "note://by/{day}"}, "argument": {"name": "day", "value": ""}},
        ),
    ],
)
async def test_prompts_and_resources_that_are_not_shown_are_unknown(
    start: Start, method: str, params: dict[str, Any]
) -> None:
    result = await Desk(await start(profiles=(DESK,)), "modern").ask(method, params)
    assert result.error is not None
    assert result.error.code == INVALID_PARAMS
    assert re.match(r"Unknown|Resource not found", result.error.message)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_rewritten_call_keeps_what_the_profile_sets(start: Start, era: Era) -> None:
    def rewrite(call: Call) -> Call | None:
        return call.replace(name="show", arguments={"value": "forged"}) if call.name == "fail" else None

    desk = Desk(await start(Seen(rewrite), profiles=(DESK,)), era)
    assert json.loads(text(await desk.call("fail")))["value"] == "set"
    hidden = Desk(await start(Seen(lambda call: call.replace(name="sleep")), profiles=(DESK,)), era)
    assert (await hidden.call("fail")).error is not None


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_an_argument_that_is_set_is_mirrored_in_its_header(start: Start, era: Era) -> None:
    world = await start(profiles=(DESK,))  # the server of the SDK refuses a call whose header is missing
    assert text(await Desk(world, era).call("weather")) == "sunny in eu"
    if era == "modern":
        assert text(await Desk(world, era, ()).call("weather")) == "sunny in eu"
        for region in ("eu", "us"):
            refused = await Desk(world, era, (("mcp-param-region", region),)).call("weather")
            assert refused.error is not None
            assert refused.error.code == HEADER_MISMATCH
            assert refused.error.message == "the header mcp-param-region belongs to no argument of this tool"


async def test_the_sdk_is_loaded_before_an_argument_is_mirrored(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    desk, loaded = Desk(await start(profiles=(DESK,)), "modern"), []
    await desk.call("show")  # waits for the lists, which load it too

    async def load() -> None:
        loaded.append("weather")

    monkeypatch.setattr(SDK, "load", load)
    await desk.call("show")
    assert loaded == []
    assert text(await desk.call("weather")) == "sunny in eu"
    assert loaded == ["weather"]


@pytest.mark.parametrize("arguments", [{"value": "other"}, {}])
async def test_a_fixed_argument_does_not_reveal_a_tool_that_a_plugin_hides(
    start: Start, arguments: dict[str, Any]
) -> None:
    desk = Desk(await start(Verdict(CallResult.unknown), profiles=(DESK,)), "modern")
    for _ in range(2):
        hidden = (await desk.call("show", **arguments)).error
        assert hidden is not None
        assert (hidden.code, hidden.message) == (INVALID_PARAMS, "Unknown tool: show")
