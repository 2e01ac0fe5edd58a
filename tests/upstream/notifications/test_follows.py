"""Followers of tasks: kept over connections, given up in time, let go of."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec import Raw

from gateway_core.api import Era, Principal
from gateway_core.errors import METHOD_NOT_FOUND, NotSent, OutcomeUnknown, RpcError
from gateway_core.exchange.exchange import Agent
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import TASK_STATUS
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.notifications import follows, pauses
from gateway_core.upstream.notifications.follows import Follows
from gateway_core.upstream.notifications.subscription import ACKNOWLEDGED

AGENT = Agent(Principal("a"), "modern", "2026-07-28", capabilities=b'{"extensions":{}}')


class Link:
    """A connection on which a subscription is acknowledged as it was asked for, unless it is `mute`."""

    def __init__(self, era: Era = "modern", *, mute: bool = False) -> None:
        self.info = ServerInfo(era, "2026-07-28")
        self.mute = mute
        self.asked: list[Any] = []
        self.open = 0
        self.lost = asyncio.Event()

    async def listen(self, params: Mapping[str, Any], take: Callable[[str, Raw], None]) -> None:
        self.asked.append(params["notifications"]["taskIds"])
        self.take = take
        self.open += 1
        try:
            if not self.mute:
                take(ACKNOWLEDGED, Raw(jsonrpc.encode({"notifications": params["notifications"]})))
            await self.lost.wait()
            raise OutcomeUnknown("lost")
        finally:
            self.open -= 1

    async def wait_closed(self) -> str:
        await self.lost.wait()
        return "lost"


class World:
    def __init__(self) -> None:
        self.link: Link | None = Link()
        self.attempts = 0
        self.told: list[tuple[str, Raw | None]] = []
        self.follows = Follows("u", self.connect)  # type: ignore[arg-type]

    async def connect(self) -> Link:
        self.attempts += 1
        if self.link is None:
            raise NotSent("not connected")
        return self.link

    def tell(self, own: str, status: Raw | None) -> None:
        self.told.append((own, status))

    async def follow(self, *task_ids: str) -> follows.Follower:
        return await self.follows.add(AGENT, frozenset(task_ids), self.tell)


@pytest.fixture
async def world() -> Any:
    made = World()
    yield made
    made.follows.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_on_a_new_connection_it_listens_again_and_what_may_have_changed_is_to_be_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "FIRST_DELAY", 0.02)
    first = world.link
    await world.follow("t1", "t2")
    assert first is not None
    world.link = Link()
    first.lost.set()
    await until(lambda: len(world.told) == 2)
    assert world.link.asked == first.asked == [["t1", "t2"]]
    assert world.told == [("t1", None), ("t2", None)]
    assert first.open == 0


async def test_it_does_not_wait_any_longer_when_the_upstream_was_reached(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "FIRST_DELAY", 1000.0)
    await world.follow("t1")
    first, world.link = world.link, None
    assert first is not None
    first.lost.set()
    await until(lambda: first.open == 0)
    world.link = Link()
    world.follows.reconnected()
    await until(lambda: world.told == [("t1", None)])


async def test_an_upstream_that_does_not_agree_in_time_is_asked_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follows, "FOLLOW_TIMEOUT", 0.05)
    world.link = Link(mute=True)
    with pytest.raises(NotSent, match="no answer to the subscription"):
        await world.follow("t1")
    link = world.link
    await until(lambda: link.open == 0)
    assert len(link.asked) == 1


async def test_what_cannot_be_followed_at_first_is_not_tried_again(world: World) -> None:
    world.link = None
    with pytest.raises(NotSent, match="not connected"):
        await world.follow("t1")
    world.link = Link("legacy")
    with pytest.raises(RpcError) as refused:
        await world.follow("t1")
    assert (refused.value.code, world.link.asked, world.attempts) == (METHOD_NOT_FOUND, [], 2)


async def test_nothing_is_told_before_the_acknowledgement_nor_of_what_cannot_be_read(world: World) -> None:
    link = world.link = Link(mute=True)
    following = asyncio.ensure_future(world.follow("t1"))
    await until(lambda: link.open)
    link.take(TASK_STATUS, Raw(b'{"taskId":"t1","status":"working"}'))
    link.take(ACKNOWLEDGED, Raw(b'{"notifications":{"taskIds":["t1","t7"]}}'))
    assert (await following).accepted == {"t1"}
    for status in (b"[]", b'{"taskId":7}', b'{"taskId":"t7"}', b'{"taskId":"t1","status":"failed"}'):
        link.take(TASK_STATUS, Raw(status))
    assert world.told == [("t1", Raw(b'{"taskId":"t1","status":"failed"}'))]


async def test_an_upstream_that_is_given_up_is_listened_to_no_more(world: World) -> None:
    link = world.link = Link()
    await world.follow("t1")
    world.follows.close()
    await until(lambda: link.open == 0)
    assert len(link.asked) == 1
