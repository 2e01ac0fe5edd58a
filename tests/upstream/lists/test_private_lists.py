"""What an upstream offers to whom: fetched once, kept within bounds, never replaced by something older."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.config import UpstreamConfig
from gateway_core.errors import NotSent
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.limits.accounts import UNCOUNTED, Account
from gateway_core.limits.budget import MemoryBudget
from gateway_core.mcp.cache_hints import MAX_TTL_MS, Hint, hint_of
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.lists import private_lists
from gateway_core.upstream.lists.private_lists import PrivateLists
from gateway_core.upstream.lists.published_lists import PublishedLists
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.status import Definitions, PrivateTo, UpstreamEvents

INFO = ServerInfo("modern", "2026-07-28", {"tools": {"listChanged": True}})


def agent(name: str) -> Agent:
    return Agent(Principal(name), "modern", "2026-07-28")


def answer(*names: str, scope: str = "private", ttl: object = 0) -> Reply:
    listed = [{"name": name, "inputSchema": {}} for name in names]
    return Reply(json.dumps({"tools": listed, "cacheScope": scope, "ttlMs": ttl}).encode())


class Server:
    """Answers as told; counts who asked."""

    closed = False

    def __init__(self, account: Account = UNCOUNTED) -> None:
        self.gateways = answer("gateways")
        self.info = INFO
        self.asked: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.now = answer("own")
        config = UpstreamConfig(name="a", transport="stdio", command="x")
        self.published = PublishedLists(config, account=account)
        self.differences: list[tuple[str, list[str], list[str], str]] = []
        self.private = PrivateLists(
            config,
            self.published,
            self.ask,
            UpstreamEvents(lists_differ=self.differ),
            account=account,
            info_for=self.info_for,
            hide=lambda agent, text: text.replace(f"secret of {agent.viewer}", "[HIDDEN]"),
        )

    def differ(
        self, upstream: str, before: Definitions, after: Definitions, private: PrivateTo | None = None, /
    ) -> None:
        assert upstream == "a"
        assert private is not None
        texts = ([one.raw.decode() for one in lists["tool"]] for lists in (before, after))
        self.differences.append((private.viewer, *texts, private.hide(f"secret of {private.viewer}")))

    async def info_for(self, agent: Agent) -> ServerInfo:
        return self.info

    async def request(self, method: str, params: Mapping[str, Any]) -> Reply:
        return self.gateways

    async def ask(self, exchange: Exchange, request: Request) -> Reply:
        found, who = self.now, exchange.agent.principal.id
        self.asked.append(who)
        if who in self.gates:
            await self.gates[who].wait()
        if found.result == b"":
            raise NotSent("gone")
        return found

    def names(self, principal: str) -> list[str] | None:
        part = self.private.part(principal)
        return None if part is None or part.fetched is None else [item.name for item in part.fetched.of("tool")]


@pytest.fixture
async def server() -> Server:
    made = Server()
    await made.published.fetch(made)  # type: ignore[arg-type]
    return made


async def test_a_change_between_two_fetches_of_one_principal_is_reported(server: Server) -> None:
    tools = [
        Reply(json.dumps({"tools": [{"name": "own", "inputSchema": {}, "description": text}]}).encode())
        for text in "ab"
    ]
    server.now = tools[0]
    await server.private.renew(agent("ada"))
    await server.private.renew(agent("ada"))
    assert server.differences == [], "the first lists and equal ones are no change"
    server.now = tools[1]
    await server.private.renew(agent("bob"))
    assert server.differences == [], "another principal may get another list"
    await server.private.renew(agent("ada"))
    ((viewer, before, after, hidden),) = server.differences
    assert (viewer, hidden) == ("ada", "[HIDDEN]")
    assert ('"a"' in before[0], '"b"' in after[0]) == (True, True)
    server.now = Reply(b"")
    await server.private.renew(agent("ada"))
    server.now = tools[1]
    await server.private.renew(agent("ada"))
    assert len(server.differences) == 1, "a failed fetch is no change"


async def test_a_principal_gets_its_own_and_the_gateway_keeps_its_own(server: Server) -> None:
    await server.private.renew(agent("ada"))
    assert server.names("ada") == ["own"]
    assert server.published.fetched is not None
    assert [item.name for item in server.published.fetched.of("tool")] == ["gateways"]
    assert server.names("bob") is None


async def test_lists_have_no_age_before_the_gateway_has_fetched_them() -> None:
    server = Server()
    server.published.per_principal()
    assert server.published.fetched is not None
    assert server.published.age is None
    await server.published.fetch(server)  # type: ignore[arg-type]
    assert server.published.age is not None


async def test_equal_lists_need_memory_once(server: Server) -> None:
    server.now = answer("gateways")
    await server.private.renew(agent("ada"))
    part, own = server.private.part("ada"), server.published.fetched
    assert part is not None and part.fetched is not None and own is not None  # noqa: PT018
    assert part.fetched.of("tool") is own.of("tool")
    assert part.fetched.other_than(own) == []
    await server.published.fetch(server)  # type: ignore[arg-type]
    assert part.fetched.other_than(server.published.fetched) == [], "also after the gateway asked again"  # type: ignore[arg-type]


async def test_those_who_ask_at_once_share_one_fetch(server: Server) -> None:
    await asyncio.gather(*(server.private.renew(agent("ada")) for _ in range(5)))
    assert server.asked == ["ada"]


async def test_due_are_lists_that_changed_expired_or_failed(server: Server) -> None:
    assert server.private.due("ada", listing=False), "it was never asked for"
    await server.private.renew(agent("ada"))
    assert not server.private.due("ada", listing=True)
    server.published.changes += 1
    assert server.private.due("ada", listing=True)
    assert not server.private.due("ada", listing=False), "calls go on with what the principal was shown"
    server.now = answer("own", ttl=1)
    await server.private.renew(agent("ada"))
    await asyncio.sleep(0.01)
    assert server.private.due("ada", listing=True)
    server.now = Reply()
    await server.private.renew(agent("bob"))
    assert (server.private.due("bob", listing=True), server.private.due("bob", listing=False)) == (True, False)


async def test_a_failure_keeps_what_was_known(server: Server) -> None:
    await server.private.renew(agent("ada"))
    server.now = Reply()
    await server.private.renew(agent("ada"))
    assert server.names("ada") == ["own"]


async def test_an_older_fetch_never_replaces_what_a_newer_one_brought(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_lists, "PATIENCE", 0.01)
    server.gates["ada"], server.now = asyncio.Event(), answer("old")
    await server.private.renew(agent("ada"))
    assert server.names("ada") is None
    gate = server.gates.pop("ada")
    server.published.changes += 1
    server.now = answer("new")
    await server.private.renew(agent("ada"))
    assert server.names("ada") == ["new"]
    gate.set()
    while server.private._tasks:
        await asyncio.sleep(0)
    assert server.names("ada") == ["new"]


async def test_only_so_many_principals_are_kept_those_used_last(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_lists, "MAX_PRINCIPALS", 3)
    for name in ("p1", "p2", "p3"):
        await server.private.renew(agent(name))
    server.private.due("p1", listing=False)
    await server.private.renew(agent("p4"))
    assert [server.names(name) is not None for name in ("p1", "p2", "p3", "p4")] == [True, False, True, True]


async def test_closing_ends_what_is_under_way(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_lists, "PATIENCE", 0.01)
    server.gates["ada"] = asyncio.Event()
    await server.private.renew(agent("ada"))
    assert server.private._tasks
    await server.private.close()
    assert not server.private._tasks


@pytest.mark.parametrize(
    ("ttl", "scope", "hint"),
    [
        (5, "public", Hint(5, public=True)),
        (5.7, "private", Hint(5)),
        (-5, "public", Hint(0, public=True)),
        (None, None, Hint()),
        ("5", "PUBLIC", Hint()),
        (1e300, ["public"], Hint(MAX_TTL_MS)),
        (10**30, "public", Hint(MAX_TTL_MS, public=True)),
    ],
)
def test_a_hint_is_what_it_means(ttl: object, scope: object, hint: Hint) -> None:
    assert hint_of(ttl, scope) == hint


def test_merged_hints_are_as_short_and_as_private_as_any() -> None:
    assert Hint(5, public=True).merged(Hint(9, public=True)) == Hint(5, public=True)
    assert Hint(5, public=True).merged(Hint(9)) == Hint(5)


@pytest.fixture
async def counted(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with a share of 25 MB."""
    monkeypatch.setattr("gateway_core.limits.budget.trim", lambda: None)
    made = Server(Account(MemoryBudget(100_000_000, lambda: 0), "a"))
    await made.published.fetch(made)  # type: ignore[arg-type]
    return made


def large(first: str, entries: int) -> Reply:
    listed = [
        {"name": f"{first}{number}", "inputSchema": {"type": "object"}, "description": "x" * 10_000}
        for number in range(entries)
    ]
    return Reply(json.dumps({"tools": listed, "cacheScope": "private", "ttlMs": 0}).encode())


async def test_a_list_of_the_gateway_that_does_not_fit_leaves_the_last_one(counted: Server) -> None:
    counted.gateways = large("large", 1000)
    await counted.published.fetch(counted)  # type: ignore[arg-type]
    fetched = counted.published.fetched
    assert fetched is not None
    assert [item.name for item in fetched.of("tool")] == ["gateways"]
    (warning,) = [text for text in fetched.warnings if "memory" in text]
    assert warning == (
        "tools/list of upstream a failed, its last known entries stay: it does not fit into the gateway's memory "
        "(limits.memory)"
    )


async def test_without_room_the_private_lists_that_were_unused_for_longest_are_dropped(counted: Server) -> None:
    budget = counted.private._account.budget
    assert budget is not None
    for number in range(8):
        counted.now = large(f"of{number}", 150)
        await counted.private.renew(agent(f"a{number}"))
    kept = [number for number in range(8) if counted.names(f"a{number}")]
    assert 0 not in kept
    assert len(kept) >= 3
    assert budget.held_by("a") <= 25_000_000
    counted.now = large("of8", 150)
    for _ in range(2):  # the first may have to make room
        await counted.private.renew(agent("a8"))
    assert counted.names("a8") == [f"of8{number}" for number in range(150)]
    counted.private.drop_oldest(100)
    assert budget.held_by("a") < 100_000
