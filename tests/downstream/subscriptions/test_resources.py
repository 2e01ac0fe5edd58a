"""Resources that agents watch: over every legacy transport, by published URI, bounded and let go of."""

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Raw

from gateway_core.api import CallResult, Principal
from gateway_core.catalog import Target
from gateway_core.downstream.subscriptions import resources
from gateway_core.downstream.subscriptions.resources import Watched
from gateway_core.errors import NotSent, RpcError
from gateway_core.exchange.exchange import Agent, Exchange

AGENT = Agent(Principal("a"), "legacy", "2025-11-25", session_id="s")


class Source:
    """An upstream that agrees to everything, once it is let."""

    def __init__(self, name: str = "u", *, subscribe: bool = True) -> None:
        self.name = name
        self.capabilities = {"resources": {"subscribe": subscribe}}
        self.reachable = True
        self.failure: Exception | None = None
        self.listeners: dict[str, Callable[[str], None]] = {}
        self.watching = 0
        self.let = asyncio.Event()
        self.let.set()
        self.status = SimpleNamespace(retry_in=lambda: None)
        self.connections = SimpleNamespace(start_limit=0.0)

    async def watch(self, agent: Agent, uri: str, told: Callable[[str], None]) -> Callable[[], None]:
        await self.let.wait()
        if self.failure is not None:
            raise self.failure
        self.listeners[uri] = told
        self.watching += 1

        def release() -> None:
            self.watching -= 1
            self.listeners.pop(uri, None)

        return release


class Shelf:
    """A catalog in which `seen:…` is an upstream's own `own:…`."""

    def __init__(self, *sources: Source) -> None:
        self.sources: Any = sources

    def resource(self, uri: str, principal: str | None = None) -> Target | None:
        return Target(uri.replace("seen:", "own:"), self.sources) if uri.startswith("seen:") else None

    def published_uri(self, upstream: str, original: str, principal: str | None = None, profile: str = "") -> str:
        return original.replace("own:", "seen:")


async def served(shelf: Shelf, exchange: Exchange, params: Mapping[str, Raw], answer: Any) -> CallResult:
    """What the pipeline does with a `resources/subscribe` if a plugin refuses URIs with `secret`."""
    assert exchange.method == "resources/subscribe"
    uri = json.loads(bytes(params["uri"]))
    if "secret" in uri:
        return CallResult.refused("secret")
    try:
        return answer if isinstance(answer, CallResult) else await answer(shelf.resource(uri))
    except RpcError as error:
        return CallResult.failed(error)


def watched(*sources: Source) -> tuple[Watched, list[str]]:
    told: list[str] = []
    shelf = Shelf(*sources)
    return Watched(shelf, AGENT, partial(served, shelf), told.append), told  # type: ignore[arg-type]


async def test_agents_hear_published_uris_only() -> None:
    source = Source()
    mine, told = watched(source)
    await mine.add("seen:a")
    for uri in ("own:a", "own:a/b"):
        source.listeners["own:a"](uri)
    while len(told) < 2:
        await asyncio.sleep(0)
    assert told == ["seen:a", "seen:a/b"]
    source.listeners["own:a"]("own:a/b")
    assert told[2:] == ["seen:a/b"], "the plugins were asked once"


async def test_a_plugin_refuses_a_subscription_and_the_upstream_is_not_asked() -> None:
    source = Source()
    mine, _ = watched(source)
    with pytest.raises(RpcError, match="secret"):
        await mine.add("seen:secret")
    assert not source.listeners


async def test_nothing_is_told_of_a_resource_below_a_watched_one_that_a_plugin_refuses() -> None:
    source = Source()
    mine, told = watched(source)
    await mine.add("seen:a")
    for uri in ("own:a/secret", "own:a/b", "own:a/secret"):
        source.listeners["own:a"](uri)
    while not told:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert told == ["seen:a/b"]
    mine.close()


async def test_a_subscription_that_a_plugin_withholds_after_the_upstream_agreed_is_released() -> None:
    source = Source()
    shelf = Shelf(source)

    async def withheld(exchange: Exchange, params: Mapping[str, Raw], answer: Any) -> CallResult:
        await answer(shelf.resource("seen:a"))
        assert source.watching == 1
        return CallResult.refused("no")

    mine = Watched(shelf, AGENT, withheld, lambda uri: None)  # type: ignore[arg-type]
    with pytest.raises(RpcError, match="no"):
        await mine.add("seen:a")
    assert source.watching == 0


async def test_everything_is_let_go_of() -> None:
    source = Source()
    mine, _ = watched(source)
    for uri in ("seen:a", "seen:b", "seen:a"):
        await mine.add(uri)
    assert sorted(source.listeners) == ["own:a", "own:b"]
    mine.remove("seen:a")
    mine.remove("seen:never")
    assert sorted(source.listeners) == ["own:b"]
    mine.close()
    assert not source.listeners


@pytest.mark.parametrize("leave", ["remove", "close"])
async def test_who_leaves_while_the_upstream_is_asked_leaves_nothing_behind(leave: str) -> None:
    source = Source()
    source.let.clear()
    mine, _ = watched(source)
    adding = asyncio.create_task(mine.add("seen:a"))
    await asyncio.sleep(0)
    mine.close() if leave == "close" else mine.remove("seen:a")
    source.let.set()
    await adding
    assert not source.listeners


async def test_who_subscribes_again_while_the_upstream_is_asked_leaves_nothing_behind() -> None:
    source = Source()
    source.let.clear()
    mine, _ = watched(source)
    first = asyncio.create_task(mine.add("seen:a"))
    await asyncio.sleep(0)
    mine.remove("seen:a")
    second = asyncio.create_task(mine.add("seen:a"))
    await asyncio.sleep(0)
    source.let.set()
    await asyncio.gather(first, second)
    assert source.watching == 1
    mine.close()
    assert source.watching == 0


async def test_who_subscribes_twice_at_once_is_told_the_same() -> None:
    source = Source()
    source.let.clear()
    mine, _ = watched(source)
    both = asyncio.gather(mine.add("seen:a"), mine.add("seen:a"), return_exceptions=True)
    await asyncio.sleep(0)
    source.failure = RpcError(-32002, "no such thing")
    source.let.set()
    assert [str(end) for end in await both] == ["no such thing", "no such thing"]


async def test_who_subscribes_twice_and_cancels_the_first_still_subscribes() -> None:
    source = Source()
    source.let.clear()
    mine, _ = watched(source)
    first = asyncio.create_task(mine.add("seen:a"))
    second = asyncio.create_task(mine.add("seen:a"))
    await asyncio.sleep(0)
    first.cancel()
    source.let.set()
    await second
    assert source.watching == 1
    mine.remove("seen:a")
    assert source.watching == 0


async def test_a_replica_is_asked_when_the_first_is_away_or_announces_nothing() -> None:
    deaf, away, good = Source("deaf", subscribe=False), Source("away"), Source("good")
    away.failure = NotSent("not connected")
    mine, _ = watched(deaf, away, good)
    await mine.add("seen:a")
    assert good.listeners
    alone, _ = watched(away)
    with pytest.raises(RpcError, match="away cannot be asked") as caught:
        await alone.add("seen:a")
    assert caught.value.code == -31001


async def test_all_replicas_together_are_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "WATCH_TIMEOUT", 0.05)
    silent, other = Source("silent"), Source("other")
    for source in (silent, other):
        source.let.clear()
    mine, _ = watched(silent, other)
    async with asyncio.timeout(2):
        with pytest.raises(RpcError, match=r"silent cannot be asked .* no answer within") as caught:
            await mine.add("seen:a")
    assert caught.value.code == -31001
    silent.let.set()
    await mine.add("seen:a")


async def test_a_server_that_has_to_start_first_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "WATCH_TIMEOUT", 0.05)
    starting = Source()
    starting.connections.start_limit = 60.0
    starting.let.clear()
    mine, _ = watched(starting)
    adding = asyncio.ensure_future(mine.add("seen:a"))
    await asyncio.sleep(0.3)
    assert not adding.done()
    starting.let.set()
    await adding


async def test_an_agent_watches_a_bounded_number_of_bounded_uris(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "MAX_WATCHED", 2)
    mine, _ = watched(Source())
    with pytest.raises(RpcError, match="characters"):
        await mine.add("seen:" + "x" * resources.MAX_URI)
    await mine.add("seen:a")
    await mine.add("seen:b")
    with pytest.raises(RpcError, match="limit"):
        await mine.add("seen:c")
    mine.remove("seen:a")
    await mine.add("seen:c")


async def test_nothing_is_told_before_the_acknowledgement_which_waits_for_the_upstream(
    world: Any, helpers: Any
) -> None:
    source = Source()
    source.let.clear()
    world.catalog.resource = Shelf(source).resource
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["seen:a", "else:b"]}
    headers, body = helpers.modern("subscriptions/listen", {"notifications": wanted}, "L")
    async with world.http.post(world.url, json=body, headers=headers) as response:
        for _ in range(3):
            world.catalog.change("tools", "prompts")
        source.let.set()
        heard = []
        async with asyncio.timeout(5):
            while len(heard) < 3:
                line = await response.content.readline()
                if line.startswith(b"data: "):
                    heard.append(json.loads(line[6:]))
                    if len(heard) == 2:
                        source.listeners["own:a"]("own:a")
    assert [message["method"] for message in heard] == [
        "notifications/subscriptions/acknowledged",
        "notifications/tools/list_changed",
        "notifications/resources/updated",
    ]
    accepted = {"toolsListChanged": True, "resourceSubscriptions": ["seen:a"]}
    assert heard[0]["params"]["notifications"] == accepted


async def test_an_agent_on_sse_subscribes_and_is_told_on_its_stream(sse_world: Any, helpers: Any) -> None:
    source = Source()
    shelf = Shelf(source)
    sse_world.catalog.resource, sse_world.catalog.published_uri = shelf.resource, shelf.published_uri
    response = await sse_world.http.get(sse_world.base + "/sse")

    async def data() -> str:
        async with asyncio.timeout(5):
            while not (line := await response.content.readline()).startswith(b"data: "):
                pass
        return line[6:].decode().strip()

    path = "/" + await data()
    request = {"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": "seen:a"}}
    await sse_world.post(helpers.initialize(), path=path)
    await data()
    await sse_world.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, path=path)
    await sse_world.post(request, path=path)
    assert json.loads(await data()) == {"jsonrpc": "2.0", "id": 2, "result": {}}
    source.listeners["own:a"]("own:a")
    assert json.loads(await data())["params"] == {"uri": "seen:a"}
    response.close()
    async with asyncio.timeout(5):
        while source.listeners:
            await asyncio.sleep(0.01)


async def test_after_a_change_of_rights_the_plugins_judge_again() -> None:
    source, asked = Source(), []
    shelf = Shelf(source)

    async def call(exchange: Exchange, params: Mapping[str, Raw], answer: Any) -> CallResult:
        asked.append((exchange.agent.principal.id, json.loads(bytes(params["uri"]))))
        if exchange.agent.principal.id == "less":
            return CallResult.refused("no more")
        return await served(shelf, exchange, params, answer)

    told: list[str] = []
    mine = Watched(shelf, AGENT, call, told.append)  # type: ignore[arg-type]
    await mine.add("seen:a")
    mine.renew(Agent(Principal("less"), "legacy", "2025-11-25", session_id="s"))
    for _ in range(3):
        source.listeners["own:a"]("own:a")
        await asyncio.sleep(0.01)
    assert (told, asked) == ([], [("a", "seen:a"), ("less", "seen:a")])
    with pytest.raises(RpcError, match="no more"):
        await mine.add("seen:a")
    mine.renew(AGENT)
    await mine.add("seen:a")
    source.listeners["own:a"]("own:a")
    assert told == ["seen:a"]


async def test_what_a_replaced_upstream_announced_is_watched_where_the_catalog_has_it_now() -> None:
    old, new = Source("old"), Source("new")
    shelf, told = Shelf(old), list[str]()
    mine = Watched(shelf, AGENT, partial(served, shelf), told.append)  # type: ignore[arg-type]
    await mine.add("seen:a")
    shelf.sources = (new,)
    mine.reconsider([old])  # type: ignore[list-item]
    async with asyncio.timeout(30):
        while not new.listeners:
            await asyncio.sleep(0)
    assert old.watching == 0
    assert told == ["seen:a"], "it may have changed meanwhile"
    new.listeners["own:a"]("own:a")
    assert told == ["seen:a", "seen:a"]


async def test_a_resource_that_moved_to_an_upstream_that_refuses_is_no_longer_watched() -> None:
    old, new = Source("old"), Source("new")
    new.failure = NotSent("down")
    shelf, told = Shelf(old), list[str]()
    mine = Watched(shelf, AGENT, partial(served, shelf), told.append)  # type: ignore[arg-type]
    await mine.add("seen:a")
    shelf.sources = (new,)
    mine.reconsider([old])  # type: ignore[list-item]
    async with asyncio.timeout(30):
        while mine._judging:
            await asyncio.sleep(0)
    assert not told
    new.failure = None
    await mine.add("seen:a")
    assert new.watching == 1


async def test_after_a_change_of_the_configuration_plugins_judge_what_is_watched_before_its_next_update() -> None:
    source, refuses = Source(), False
    shelf, told = Shelf(source), list[str]()

    async def call(exchange: Exchange, params: Mapping[str, Raw], answer: Any) -> CallResult:
        return CallResult.refused("not now") if refuses else await served(shelf, exchange, params, answer)

    mine = Watched(shelf, AGENT, call, told.append)  # type: ignore[arg-type]
    await mine.add("seen:a")
    refuses = True
    mine.reconsider([])
    for _ in range(3):
        source.listeners["own:a"]("own:a")
        await asyncio.sleep(0.01)
    assert not told
