"""Two people at one server, with the official clients of both eras: each is itself there, apart from the other."""

import asyncio
import json
from typing import Any

import mcp_types as types
import pytest
from loguru import logger
from mcp import MCPError

from gateway_core.upstream.identities import identities
from tests.upstream.identities.conftest import told, until

ERA = pytest.mark.parametrize("era", ["legacy", "modern"])
SERVER = pytest.mark.parametrize("server", [(), ("--legacy",)], ids=["modern server", "legacy server"])


@ERA
@SERVER
async def test_each_principal_is_itself_upstream(
    world: Any, user_server: Any, era: str, server: tuple[str, ...]
) -> None:
    made = await world(user_server(*server))
    async with made.client("ada", era, "ada-key") as ada, made.client("ben", era) as ben:
        for _ in range(3):
            one, two = await asyncio.gather(told(ada, "who"), told(ben, "who"))
            assert (one["x-user-id"], one["x-api-key"]) == ("ada", "ada-key")
            assert (two["x-user-id"], two.get("x-api-key")) == ("ben", None)
        assert made.identities == 2
        if server:
            assert one["session"] != two["session"]


@ERA
async def test_legacy_sessions_are_kept_apart(world: Any, user_server: Any, era: str) -> None:
    made = await world(user_server("--legacy"))
    async with made.client("ada", era) as ada, made.client("ben", era) as ben:
        await ada.call_tool("keep", {"text": "ada's"})
        await ben.call_tool("keep", {"text": "ben's"})
        found = [(await it.call_tool("recall", {})).content[0].text for it in (ada, ben)]
        assert found == ["ada's", "ben's"]


@ERA
async def test_other_values_of_one_principal_are_another_identity(world: Any, user_server: Any, era: str) -> None:
    made = await world(user_server("--legacy"))
    async with made.client("ada", era, "one") as one, made.client("ada", era, "two") as two:
        await one.call_tool("keep", {"text": "one's"})
        assert (await two.call_tool("recall", {})).content[0].text == "nothing"
        assert (await told(two, "who"))["x-api-key"] == "two"
        assert made.identities == 2


@ERA
async def test_a_client_without_proof_is_refused_with_what_is_missing(world: Any, user_server: Any, era: str) -> None:
    made = await world(user_server())
    async with made.client(None, era) as client:
        with pytest.raises(MCPError, match=r"not executed.*not verified who calls.*principal\.subject as X-User-Id"):
            await client.call_tool("who", {})
        assert made.identities == 0
    assert made.upstream.status.last_error is None
    async with made.client("ada", era) as ada:
        assert (await told(ada, "who"))["x-user-id"] == "ada"


@ERA
async def test_a_missing_header_is_named(world: Any, user_server: Any, era: str) -> None:
    made = await world(user_server(), forward={"X-Api-Key": "header:X-Tracker-Key"})
    async with made.client(None, era) as client, made.client(None, era, "secret-of-one") as one:
        with pytest.raises(MCPError, match="lacks the header x-tracker-key, which this upstream gets as X-Api-Key"):
            await client.call_tool("who", {})
        assert (await told(one, "who"))["x-api-key"] == "secret-of-one"
        async with made.client(None, era, "secret-of-two") as two:
            assert (await told(two, "who"))["x-api-key"] == "secret-of-two"
    assert "secret-of" not in json.dumps(made.gateway.status(), default=str)


@ERA
@SERVER
async def test_a_server_that_refuses_the_gateway_lists_for_each_principal(
    world: Any, user_server: Any, era: str, server: tuple[str, ...]
) -> None:
    made = await world(user_server("--required", *server))
    assert made.upstream.without_own
    async with made.client("ada", era) as ada, made.client("ben", era) as ben, made.client(None, era) as nobody:
        names = [{tool.name for tool in (await it.list_tools()).tools} for it in (ada, ben, nobody)]
        some = {"who", "of-ada", "of-ben"}
        assert [names[0] & some, names[1] & some, names[2]] == [{"who", "of-ada"}, {"who", "of-ben"}, set()]
        assert (await told(ada, "who"))["x-user-id"] == "ada"
        assert (await told(ben, "who"))["x-user-id"] == "ben"


async def test_a_refusal_of_one_user_says_nothing_about_the_server(world: Any, user_server: Any) -> None:
    made = await world(user_server())
    async with made.client("refused", "modern") as refused, made.client("ada", "modern") as ada:
        for _ in range(30):
            with pytest.raises(MCPError, match="403"):
                await refused.call_tool("who", {})
        assert made.upstream.facts.state == "healthy"
        assert made.upstream.status.last_error is None
        assert (await told(ada, "who"))["x-user-id"] == "ada"


async def test_questions_and_progress_reach_the_agent_of_their_call(world: Any, user_server: Any) -> None:
    made = await world(user_server("--legacy"))

    def answering(name: str, asked: list[str]) -> Any:
        async def elicit(context: Any, params: Any) -> Any:
            asked.append(params.message)
            return types.ElicitResult(action="accept", content={"name": name})

        return elicit

    asked_ada: list[str] = []
    asked_ben: list[str] = []
    progress: dict[str, list[str]] = {"ada": [], "ben": []}

    def note(name: str) -> Any:
        async def on_progress(done: float, total: float | None, message: str | None) -> None:
            progress[name].append(message or "")

        return on_progress

    async with (
        made.client("ada", "legacy", elicitation_callback=answering("A", asked_ada)) as ada,
        made.client("ben", "legacy", elicitation_callback=answering("B", asked_ben)) as ben,
    ):
        found = await asyncio.gather(*(told(it, "ask") for it in (ada, ben, ada, ben)))
        assert found == [{"user": "ada", "answer": "A"}, {"user": "ben", "answer": "B"}] * 2
        assert (set(asked_ada), set(asked_ben)) == ({"Are you ada?"}, {"Are you ben?"})
        await asyncio.gather(
            ada.call_tool("slow", {"steps": 5}, progress_callback=note("ada")),
            ben.call_tool("slow", {"steps": 5}, progress_callback=note("ben")),
        )
    assert {name: set(seen) for name, seen in progress.items()} == {"ada": {"ada"}, "ben": {"ben"}}


@ERA
async def test_a_logout_of_one_leaves_the_other(world: Any, user_server: Any, era: str) -> None:
    made = await world(user_server("--legacy"))
    async with made.client("ada", era) as ada, made.client("ben", era) as ben:
        await ada.call_tool("keep", {"text": "ada's"})
        await ben.call_tool("keep", {"text": "ben's"})
        before = set((await told(ben, "journal"))["ended"])
        made.upstream.identities.forget("ada|proxy")
        assert made.identities == 1
        assert (await ben.call_tool("recall", {})).content[0].text == "ben's"
        assert (await ada.call_tool("recall", {})).content[0].text == "nothing"
        while not (ended := set((journal := await told(ben, "journal"))["ended"]) - before):
            await asyncio.sleep(0.05)
        assert {journal["sessions"][it] for it in ended} == {"ada"}


async def test_connections_that_are_not_used_are_closed(
    world: Any, user_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "IDLE", 0.2)
    monkeypatch.setattr(identities, "SWEEP", 0.05)
    made = await world(user_server("--legacy"))
    async with made.client("ada", "modern") as ada:
        await told(ada, "who")
        first = (await told(ada, "who"))["session"]
        await until(lambda: made.identities == 0)
        assert (await told(ada, "who"))["session"] != first


async def test_the_least_recently_used_identity_makes_room(
    world: Any, user_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "MAX_IDENTITIES", 3)
    made = await world(user_server("--legacy"))
    async with made.client("ada", "modern") as ada, made.client("ben", "modern") as ben:
        first, second = (await told(ada, "who"))["session"], (await told(ben, "who"))["session"]
        async with made.client("cyd", "modern") as cyd, made.client("dan", "modern") as dan:
            await told(cyd, "who")
            await told(ada, "who")
            await told(dan, "who")
        assert made.identities == 3
        assert (await told(ada, "who"))["session"] == first
        assert (await told(ben, "who"))["session"] != second


async def test_a_principal_with_its_share_of_identities_gives_up_its_own(
    world: Any, user_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "SHARE", 2)
    made = await world(user_server("--legacy"), forward={"X-User-Id": "header:X-Tracker-Key"})
    async with made.client("other", "modern", "eve") as eve:
        kept = (await told(eve, "who"))["session"]
        for person in ("ada", "ben", "cyd"):
            async with made.client("team", "modern", person) as one:
                await told(one, "who")
        assert made.identities == 3, "two of the team, and one of the other principal"
        assert (await told(eve, "who"))["session"] == kept


@ERA
async def test_people_who_share_a_principal_do_not_share_lists(world: Any, user_server: Any, era: str) -> None:
    made = await world(user_server("--required"), forward={"X-User-Id": "header:X-Tracker-Key"})
    async with made.client("team", era, "ada") as ada, made.client("team", era, "ben") as ben:
        for _ in range(2):
            some = {"of-ada", "of-ben"}
            mine, other = await asyncio.gather(ada.list_tools(), ben.list_tools())
            assert {tool.name for tool in mine.tools} & some == {"of-ada"}
            assert {tool.name for tool in other.tools} & some == {"of-ben"}


@ERA
async def test_the_log_has_no_secret_that_a_server_quotes_when_it_refuses_lists(
    world: Any, user_server: Any, era: str
) -> None:
    made, key, lines = await world(user_server("--required")), "trk-5f0c9d1e7a", list[str]()
    sink = logger.add(lines.append, level="DEBUG")
    try:
        async with made.client("leaky", era, key) as client:
            await client.list_tools()
    finally:
        logger.remove(sink)
    assert any(
        "private tools/list of upstream tracker could not be fetched" in line and "no tools for" in line
        for line in lines
    )
    assert not any(key in line for line in lines)


async def test_a_login_that_ends_takes_only_its_identity(world: Any, user_server: Any) -> None:
    made = await world(user_server("--legacy"))
    async with made.client("ada", "legacy") as ada:
        async with made.client("ben", "legacy") as ben:
            await ada.call_tool("keep", {"text": "ada's"})
            await ben.call_tool("keep", {"text": "ben's"})
            journal = await told(ben, "journal")
            own = {it for it, user in journal["sessions"].items() if user == "ben"} - set(journal["ended"])
        ended: set[str] = set()
        while not own & ended:  # the session of the agent has ended, and with it that upstream
            await asyncio.sleep(0.05)
            ended = set((await told(ada, "journal"))["ended"])
        assert (await ada.call_tool("recall", {})).content[0].text == "ada's"
