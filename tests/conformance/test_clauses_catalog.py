"""The clauses about lists, names and links, over real sockets with servers of the official SDK."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import mcp_types as types
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.server.caching import CacheHint
from mcp.server.subscriptions import ToolsListChanged
from mcp.shared.exceptions import MCPError

from gateway_core.config.loader import loads
from gateway_core.errors import ConfigError
from gateway_core.upstream.lists import private_lists

from .catalog_kit import PRIVATE, PUBLIC, Offering, tool, until, world

INVALID_PARAMS = -32602
REGION = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
PLAIN = {"type": "object", "properties": {"region": {"type": "string"}}}
NUMBER = {"type": "object", "properties": {"number": {"type": "integer"}}}
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
SHARED = {"tools/list": PUBLIC, "resources/list": PUBLIC, "resources/templates/list": PUBLIC}
OWN = {"tools/list": PRIVATE}
BRISK = dict.fromkeys("abc", "health_check_interval = 1")
"""Outages are noticed soon."""
SERVER_INFO = "io.modelcontextprotocol/serverInfo"


def resource(uri: str, **members: Any) -> types.Resource:
    return types.Resource(uri=uri, name=uri.rpartition("/")[2], **members)


# -- 15, 16: parameters in headers ----------------------------------------------------------------------------------


async def test_clause_15_a_tool_with_an_invalid_header_annotation_is_left_out_alone() -> None:
    bad = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "not a token"}}}
    a, b = Offering("a", [tool("bad", bad), tool("good", REGION)]), Offering("b", [tool("bad", PLAIN)])
    async with a.serving(), b.serving(), world(a, b, each=dict.fromkeys("ab", "priority = 1")) as here:
        ada = here.agent()
        assert await ada.tools() == ["good", "bad"]
        assert await ada.text("bad") == "b:bad", "its replica elsewhere is sound, and serves"
        assert any("'bad' of upstream a is left out" in warning for warning in here.gateway.tools()["warnings"])


async def test_clause_15_parameters_are_mirrored_for_agents_that_know_nothing_of_it() -> None:
    a = Offering("a", [tool("good", REGION)])
    async with a.serving(), world(a) as here:
        elder = await here.legacy_agent()
        await elder.ask("tools/call", {"name": "good", "arguments": {"region": "süd"}})
        await elder.ask("tools/call", {"name": "good", "arguments": {"region": "north"}})
        headers = [headers for _, _, headers in a.called]
        assert headers[1]["mcp-param-region"] == "north"
        assert headers[0]["mcp-param-region"].startswith("=?base64?")


@pytest.mark.parametrize("hints", [SHARED, OWN], ids=["shared", "private"])
async def test_clause_16_a_changed_schema_costs_one_refresh_and_one_repetition(
    hints: dict[str, CacheHint],
) -> None:
    a = Offering("a", [tool("t", PLAIN)], hints=hints, announces=False)
    async with a.serving(), world(a) as here:
        elder = await here.legacy_agent()
        await elder.ask("tools/list")
        a.tools = [tool("t", REGION)]
        before = a.listed.count("tools/list")
        answer = await elder.ask("tools/call", {"name": "t", "arguments": {"region": "north"}})
        assert answer["result"]["content"][0]["text"] == "a:t"
        assert [headers["mcp-param-region"] for _, _, headers in a.called] == ["north"], "it ran once"
        assert a.listed.count("tools/list") - before == (1 if hints is SHARED else 2), "once for each view of it"


async def test_clause_16_a_server_that_keeps_refusing_is_not_asked_a_third_time() -> None:
    a = Offering("a", [tool("t", PLAIN)], hints=SHARED, announces=False)
    attempts: list[str] = []

    def note(message: dict[str, Any]) -> None:
        if message.get("method") == "tools/call":
            attempts.append(message["params"]["name"])

    a.override = note
    async with a.serving(), world(a) as here:
        a.tools = [tool("t", REGION)]

        async def old() -> list[types.Tool]:
            return [tool("t", PLAIN)]

        a.listing = lambda _: old()
        answer = await here.agent().ask("tools/call", {"name": "t", "arguments": {"region": "north"}})
        assert "error" in answer
        assert attempts == ["t", "t"]


# -- 31, 24: results that are no answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["input_required", "zzz"])
async def test_clause_31_a_question_instead_of_a_list_is_invalid(kind: str) -> None:
    a, b = Offering("a"), Offering("b", [tool("sound")])

    def ask_back(message: dict[str, Any]) -> bytes | None:
        return (
            json.dumps({"resultType": kind, "inputRequests": {}}).encode()
            if message["method"] == "tools/list"
            else None
        )

    a.override = ask_back
    async with a.serving(), b.serving(), world(a, b) as here:
        assert await here.agent().tools() == ["sound"]
        status = next(one for one in here.gateway.status()["upstreams"] if one["name"] == "a")
        assert any("tools/list is invalid" in warning for warning in status["warnings"])
        assert (status["state"], status["lists"]) == ("healthy", "incomplete")


# -- 36, 37, 38: caching ---------------------------------------------------------------------------------------------


async def test_clause_36_what_a_legacy_server_says_is_stale_at_once_and_private_towards_modern_agents() -> None:
    a = Offering("a", [tool("t")], [resource("file:///x")], legacy=True)
    async with a.serving(), world(a) as here:
        for method, params in (("tools/list", {}), ("resources/read", {"uri": "file:///x"}), ("server/discover", {})):
            result = await here.agent().result(method, params)
            assert (result["ttlMs"], result["cacheScope"], result["resultType"]) == (0, "private", "complete"), method


async def test_clause_36_hints_of_modern_servers_pass_to_modern_agents_only() -> None:
    hints = dict.fromkeys([*SHARED, "resources/read", "server/discover"], CacheHint(30_000, "public"))
    a = Offering("a", [tool("t")], [resource("file:///x")], hints=hints)
    async with a.serving(), world(a) as here:
        elder = await here.legacy_agent()
        for method, params in (("tools/list", {}), ("resources/read", {"uri": "file:///x"})):
            result = await here.agent().result(method, params)
            assert (result["ttlMs"], result["cacheScope"]) == (30_000, "public"), method
            result = (await elder.ask(method, params))["result"]
            assert not {"ttlMs", "cacheScope", "resultType"} & set(result), method
        result = await here.agent().result("server/discover")
        assert (result["ttlMs"], result["cacheScope"]) == (30_000, "public")


async def test_clause_37_a_private_list_is_each_principals_own() -> None:
    a, b = Offering("a", hints=SHARED | OWN), Offering("b", [tool("shared")], hints=SHARED)

    async def listing(capabilities: Any) -> list[types.Tool]:
        return [tool(f"only_{a.listed.count('tools/list')}_{'-'.join(capabilities)}")]

    a.listing = listing
    async with a.serving(), b.serving(), world(a, b) as here:
        ada, bob = here.agent("ada", sampling={}), here.agent("bob")
        assert await ada.tools() == ["only_2_sampling", "shared"], "fetched in its name, with its capabilities"
        assert await bob.tools() == ["only_3_", "shared"]
        assert await ada.tools() == ["only_2_sampling", "shared"], "kept"
        assert (await (await here.legacy_agent("ada")).ask("tools/list"))["result"]["tools"][0][
            "name"
        ] == "only_2_sampling"
        assert (await ada.result("tools/list"))["cacheScope"] == "private"
        assert a.listed.count("tools/list") == 3
        assert b.listed.count("tools/list") == 1, "public ones are fetched once for all"
        assert await ada.text("only_2_sampling") == "a:only_2_sampling"
        assert await bob.error("tools/call", {"name": "only_2_sampling", "arguments": {}}) == INVALID_PARAMS


async def test_clause_37_a_name_means_what_its_principal_was_shown() -> None:
    a, b = Offering("a", hints=SHARED | OWN), Offering("b", [tool("t", NUMBER)], hints=SHARED)

    async def listing(capabilities: Any) -> list[types.Tool]:
        return [] if "roots" in capabilities else [tool("t", TEXT)]

    a.listing = listing
    async with a.serving(), b.serving(), world(a, b) as here:
        ada, bob = here.agent("ada"), here.agent("bob", roots={})
        assert await bob.text("t") == "b:t", "even if it never asked for a list"
        assert (await ada.tools(), await bob.tools()) == (["a__t", "t"], ["t"]), "b had the name first"
        assert (await ada.text("a__t"), await ada.text("t")) == ("a:t", "b:t")


async def test_clause_37_a_slow_server_delays_no_list_and_no_agent_gets_anothers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(private_lists, "PATIENCE", 0.5)
    a, b = Offering("a", hints=SHARED | OWN), Offering("b", [tool("shared")], hints=SHARED)
    gate = asyncio.Event()
    gate.set()

    async def listing(capabilities: Any) -> list[types.Tool]:
        await gate.wait()
        return [tool("ours")]

    a.listing = listing
    async with a.serving(), b.serving(), world(a, b) as here:
        ada, bob = here.agent("ada"), here.agent("bob")
        assert await ada.tools() == ["ours", "shared"]
        gate.clear()
        await a.tell(ToolsListChanged())
        await until(lambda: a.listed.count("tools/list") == 3)  # the gateway asks again for itself
        assert await ada.tools() == ["ours", "shared"], "what it saw last"
        assert await bob.tools() == ["shared"], "it was shown nothing before"
        assert (await bob.result("tools/list"))["ttlMs"] == 0
        gate.set()
        await until(lambda: here.upstream("a").private_lists.part("bob@127.0.0.1") is not None)
        assert await bob.tools() == ["ours", "shared"], "what came too late is there for the next"


async def test_clause_37_private_lists_of_a_server_that_is_down_stay_with_their_principals() -> None:
    a, b = Offering("a", [tool("ours")], hints=SHARED | OWN), Offering("b", [tool("shared")], hints=SHARED)
    async with b.serving(), a.serving(), world(a, b, each=BRISK) as here:
        ada, bob = here.agent("ada"), here.agent("bob")
        await ada.tools()
        assert here.lists("a") == "current"
        a.die()
        await until(lambda: here.lists("a") == "last known")
        assert await ada.tools() == ["ours", "shared"]
        assert await bob.tools() == ["shared"]
        answer = await bob.ask("tools/call", {"name": "ours", "arguments": {}})
        assert "a: " in answer["error"]["message"], "the outage is named, whoever asks"


async def test_clause_38_a_fetch_that_a_change_overtook_replaces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_lists, "PATIENCE", 0.5)
    a = Offering("a", [tool("old")], hints=SHARED | OWN)
    gate, held = asyncio.Event(), []

    async def listing(capabilities: Any) -> list[types.Tool]:
        found = list(a.tools)
        if "sampling" in capabilities and len(capabilities) == 1 and not held:
            held.append(found)
            await gate.wait()
        return found

    a.listing = listing
    async with a.serving(), world(a) as here:
        ada, its = here.agent("ada", sampling={}), here.upstream("a").published
        assert await ada.tools() == [], "the first fetch hangs"
        a.tools, before = [tool("new")], its.changes
        await a.tell(ToolsListChanged())
        await until(lambda: its.changes > before)
        assert await ada.tools() == ["new"]
        gate.set()
        await until(lambda: not its._tasks)
        assert held == [[tool("old")]]
        assert await ada.tools() == ["new"]


async def test_clause_38_a_change_reaches_agents_even_where_the_gateway_sees_none() -> None:
    a = Offering("a", [tool("t")], hints=SHARED | OWN)
    async with a.serving(), world(a) as here:
        changed: list[frozenset[str]] = []
        here.gateway.catalog.listen(lambda kinds, _: changed.append(kinds))
        ada = here.agent()
        await ada.tools()
        await a.tell(ToolsListChanged())
        await until(lambda: bool(changed))
        assert changed == [frozenset({"tools"})]


async def test_clause_38_all_pages_have_the_scope_of_the_most_private_part_and_the_shortest_life() -> None:
    a = Offering("a", [tool("a1"), tool("a2")], hints={"tools/list": CacheHint(5000, "public")})
    b = Offering("b", [tool("b1")], hints={"tools/list": CacheHint(900, "private")})
    c = Offering("c", [tool("c1")], hints={"tools/list": CacheHint(700, "public")})
    async with a.serving(), b.serving(), c.serving(), world(a, b, c, top="[mcp.proxy.limits]\npage_size = 1") as here:
        ada, cursor, seen = here.agent(), None, []
        while True:
            page = await ada.result("tools/list", {} if cursor is None else {"cursor": cursor})
            seen.append((page["tools"][0]["name"], page["ttlMs"], page["cacheScope"]))
            cursor = page.get("nextCursor")
            if cursor is None:
                break
        assert seen == [(name, 700, "private") for name in ("a1", "a2", "b1", "c1")]


# -- 39: cursors -----------------------------------------------------------------------------------------------------

ONE_A_PAGE = "[mcp.proxy.limits]\npage_size = 1"


async def test_clause_39_a_walk_spans_upstreams_also_one_that_dies_meanwhile() -> None:
    names = [[f"{name}{number}" for number in range(2)] for name in "abc"]
    a, b, c = (Offering(found[0][0], [tool(name) for name in found], hints=SHARED) for found in names)
    async with a.serving(), b.serving(), c.serving(), world(a, b, c, top=ONE_A_PAGE, each=BRISK) as here:
        ada, cursor, seen = here.agent(), None, []
        while True:
            page = await ada.result("tools/list", {} if cursor is None else {"cursor": cursor})
            seen += [found["name"] for found in page["tools"]]
            if len(seen) == 1:
                b.die()
                await until(lambda: here.lists("b") == "last known")
            cursor = page.get("nextCursor")
            if cursor is None:
                break
        assert seen == ["a0", "a1", "b0", "b1", "c0", "c1"]


async def test_clause_39_a_cursor_that_is_not_ones_own_is_refused() -> None:
    a = Offering("a", hints=SHARED | OWN)

    async def listing(capabilities: Any) -> list[types.Tool]:
        return [tool("x"), tool("-".join(capabilities)), tool("y")]

    a.listing = listing
    async with a.serving(), world(a, top=ONE_A_PAGE) as here:
        ada, bob = here.agent("ada", sampling={}), here.agent("bob", roots={})
        cursor = (await ada.result("tools/list"))["nextCursor"]
        assert (await ada.result("tools/list", {"cursor": cursor}))["tools"][0]["name"] == "sampling"
        forged = cursor[:20] + ("A" if cursor[20] != "A" else "B") + cursor[21:]
        for agent, method, given in (
            (bob, "tools/list", cursor),
            (ada, "resources/list", cursor),
            (ada, "tools/list", forged),
            (ada, "tools/list", ""),
            (ada, "tools/list", "x" * 100_000),
        ):
            assert await agent.error(method, {"cursor": given}) == INVALID_PARAMS


async def test_clause_39_a_walk_over_a_list_that_changes_goes_on_or_is_told_to_start_again() -> None:
    a = Offering("a", [tool(name) for name in "pqr"], hints=SHARED)
    async with a.serving(), world(a, top=ONE_A_PAGE) as here:
        ada, catalog = here.agent(), here.gateway.catalog
        cursor = (await ada.result("tools/list"))["nextCursor"]
        for names, rest in (("opqr", "q"), ("qr", None)):
            a.tools = [tool(name) for name in names]
            await a.tell(ToolsListChanged())
            await until(lambda names=names: list(catalog.snapshot.tools) == list(names))
            if rest is None:
                assert await ada.error("tools/list", {"cursor": cursor}) == INVALID_PARAMS
            else:
                page = await ada.result("tools/list", {"cursor": cursor})
                assert [found["name"] for found in page["tools"]] == [rest]


async def test_clause_39_an_upstreams_cursors_are_followed_also_the_empty_one_and_never_for_ever() -> None:
    given: list[Any] = []

    def page(message: dict[str, Any]) -> bytes | None:
        if message["method"] != "tools/list":
            return None
        cursor = message["params"].get("cursor")
        given.append(cursor)
        number = len(given)
        listed = [{"name": f"t{number}", "inputSchema": {"type": "object"}}]
        following = {None: "", "": "x", "x": ""}[cursor]
        return json.dumps(
            {"resultType": "complete", "ttlMs": 9000, "cacheScope": "public", "tools": listed, "nextCursor": following}
        ).encode()

    a = Offering("a", override=page)
    async with a.serving(), world(a) as here:
        assert await here.agent().tools() == ["t1", "t2", "t3"]
        assert given == [None, "", "x"]
        assert any("does not end" in warning for warning in here.gateway.tools()["warnings"])


# -- 40, 41: names ---------------------------------------------------------------------------------------------------


async def test_clause_40_the_order_is_the_files_whoever_answers_first() -> None:
    seen = []
    for slow in ("a", "b"):
        a, b = (
            Offering("a", [tool("z"), tool("y")], hints=SHARED),
            Offering("b", [tool("k"), tool("z", TEXT)], hints=SHARED),
        )

        async def late(capabilities: Any, of: Offering = a if slow == "a" else b) -> list[types.Tool]:
            await asyncio.sleep(0.3)
            return of.tools

        (a if slow == "a" else b).listing = late
        async with a.serving(), b.serving(), world(a, b) as here:
            seen.append(await here.agent().tools())
    assert seen == [["z", "y", "k", "b__z"]] * 2


async def test_clause_40_what_was_last_known_of_a_server_that_is_down_is_listed_and_marked() -> None:
    a, b = Offering("a", [tool("t")], hints=SHARED), Offering("b", [tool("u")], hints=SHARED)
    async with b.serving(), a.serving(), world(a, b, each=BRISK) as here:
        ada = here.agent()
        assert (here.lists("a"), here.lists("b")) == ("current", "current")
        a.die()
        await until(lambda: here.lists("a") == "last known")
        assert await ada.tools() == ["t", "u"]
        assert here.lists("b") == "current"
        assert "error" in await ada.ask("tools/call", {"name": "t", "arguments": {}})


async def test_clause_41_names_are_valid_distinct_and_reach_who_they_name() -> None:
    long = "n" * 128
    a = Offering("a", [tool(long, TEXT), tool("with:colon")], hints=SHARED)
    b = Offering("b", [tool(long, NUMBER)], hints=SHARED)
    async with a.serving(), b.serving(), world(a, b) as here:
        ada = here.agent()
        names = await ada.tools()
        assert len(set(names)) == 3
        assert all(1 <= len(name) <= 128 and name.replace("_", "a").isalnum() for name in names)
        owners = [(await ada.text(name)).partition(":") for name in names]
        assert [(owner, original) for owner, _, original in owners] == [("a", long), ("a", "with:colon"), ("b", long)]


def test_clause_41_no_upstreams_name_holds_the_separator(tmp_path: Any) -> None:
    text = '[mcp.proxy]\nenable = true\n[[mcp.proxy.upstreams]]\nname = "a__b"\ntransport = "stdio"\ncommand = "x"\n'
    with pytest.raises(ConfigError, match="a__b"):
        loads(text, tmp_path / "mcp-proxy.toml", {})


# -- 42, 43: resources -----------------------------------------------------------------------------------------------


def linking(name: str) -> Offering:
    """A server that owns what another one owns, too, and speaks of it wherever it can."""
    link = types.ResourceLink(type="resource_link", uri="file:///x", name="x")
    hidden = types.ResourceLink(type="resource_link", uri="secret://hidden", name="h")
    contents = types.TextResourceContents(uri="file:///x", text=name)
    by_template = types.TextResourceContents(uri="by://day/monday", text=name)
    return Offering(
        name,
        [tool(f"show_{name}", meta={"ui": {"resourceUri": "ui://app", "other": 1}, "ui/resourceUri": "ui://app"})],
        [resource("file:///x", size=len(name)), resource("ui://app", size=len(name)), resource(f"file:///{name}")],
        [types.ResourceTemplate(uri_template="by://day/{day}", name=f"by {name}")],
        hints=SHARED,
        unlisted=["by://day/monday", "secret://hidden"],
        results={
            f"show_{name}": types.CallToolResult(
                content=[
                    types.TextContent(type="text", text="file:///x"),
                    link,
                    types.EmbeddedResource(type="resource", resource=contents),
                    types.EmbeddedResource(type="resource", resource=by_template),
                    hidden,
                ],
                structured_content={"uri": "file:///x"},
                meta={"ui": {"resourceUri": "ui://app"}},
            )
        },
    )


async def test_clause_42_every_link_reaches_the_server_that_gave_it() -> None:
    a, bb = linking("a"), linking("bb")
    async with a.serving(), bb.serving(), world(a, bb) as here:
        ada = here.agent()
        for one in (a, bb):
            result = await ada.call(f"show_{one.name}")
            text, link, embedded, templated, hidden = result["content"]
            definitions = {found["name"]: found for found in (await ada.result("tools/list"))["tools"]}
            ui = definitions[f"show_{one.name}"]["_meta"]
            links = [
                link["uri"],
                embedded["resource"]["uri"],
                templated["resource"]["uri"],
                hidden["uri"],
                ui["ui"]["resourceUri"],
                ui["ui/resourceUri"],
                result["_meta"]["ui"]["resourceUri"],
            ]
            for uri in links:
                contents = await ada.read(uri)
                assert contents["text"].startswith(f"{one.name} has "), uri
                assert contents["uri"] == uri, "what is read is known by the name it was asked for"
            assert (text["text"], result["structuredContent"]) == ("file:///x", {"uri": "file:///x"}), "no links"
            assert ui["ui"]["other"] == 1
        assert (await ada.read("file:///bb"))["uri"] == "file:///bb", "what clashes with nothing keeps its URI"
        assert (
            set(a.read)
            == set(bb.read) - {"file:///bb"}
            == {"file:///x", "by://day/monday", "secret://hidden", "ui://app"}
        )


async def test_clause_42_published_uris_lead_back() -> None:
    a, bb = linking("a"), linking("bb")
    async with a.serving(), bb.serving(), world(a, bb) as here:
        catalog = here.gateway.catalog
        for name in ("a", "bb"):
            for uri in ("file:///x", "by://day/friday", "never://listed"):
                target = catalog.resource(catalog.published_uri(name, uri))
                assert target is not None
                assert (target.original, [one.name for one in target.upstreams]) == (uri, [name])
        assert catalog.published_uri("bb", "file:///x#upstream=a") == "file:///x#upstream=a", "an agent's own word"


async def test_clause_42_with_one_owner_of_resources_nothing_is_renamed() -> None:
    a, b = linking("a"), Offering("b", [tool("t")], hints=SHARED)
    async with a.serving(), b.serving(), world(a, b) as here:
        uris = [part["uri"] for part in (await here.agent().call("show_a"))["content"] if "uri" in part]
        assert uris == ["file:///x", "secret://hidden"]


@pytest.mark.parametrize("legacy", [False, True], ids=["modern server", "legacy server"])
async def test_clause_43_a_missing_resource_is_an_error_in_the_agents_era(legacy: bool) -> None:
    a = Offering("a", resources=[resource("file:///x")], legacy=legacy)
    async with a.serving(), world(a) as here:
        assert await here.agent().error("resources/read", {"uri": "file:///gone"}) == INVALID_PARAMS
        answer = await (await here.legacy_agent()).ask("resources/read", {"uri": "file:///gone"})
        assert answer["error"]["code"] == -32002


# -- 44: annotations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", [False, True])
async def test_clause_44_an_untrusted_servers_word_repeats_nothing(trusted: bool) -> None:
    harmless = types.ToolAnnotations(read_only_hint=True, idempotent_hint=True)
    a = Offering("a", [tool("t", annotations=harmless)], hints=SHARED)

    async def die(params: types.CallToolRequestParams) -> None:
        a.die()
        await asyncio.sleep(30)

    a.calling = die
    b = Offering("b", [tool("t", annotations=harmless)], hints=SHARED)
    each = dict.fromkeys("ab", "priority = 1\ntrust_annotations = true" if trusted else "priority = 1")
    async with a.serving(), b.serving(), world(a, b, each=each) as here:
        result = await here.agent().call("t")
        assert len(a.called) == 1
        assert (len(b.called), result["isError"]) == ((1, False) if trusted else (0, True))


# -- 61: _meta -------------------------------------------------------------------------------------------------------

HOP = "io.modelcontextprotocol/"
KEYS = st.one_of(
    st.sampled_from(["traceparent", "tracestate", "baggage", "progressTokens", f"{HOP}unheard", f"{HOP}logLevel"]),
    st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){1,2}/[a-zA-Z0-9][a-zA-Z0-9_.-]{0,10}", fullmatch=True),
    st.text(min_size=1, max_size=12),
)
NUMBERS = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
METAS = st.dictionaries(KEYS, VALUES, max_size=6).map(
    lambda meta: meta | {key: "info" for key in meta if key == f"{HOP}logLevel"}
)


def test_clause_61_meta_passes_both_ways_but_for_what_belongs_to_one_hop() -> None:
    seen: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []

    def echo(message: dict[str, Any]) -> bytes | None:
        if message["method"] != "tools/call":
            return None
        seen.append(message["params"]["_meta"])
        return json.dumps({"resultType": "complete", "content": [], "_meta": answers[-1]}).encode()

    a = Offering("a", [tool("t")], hints=SHARED, override=echo)

    with asyncio.Runner() as runner:
        serving, gateway = a.serving(), None
        runner.run(serving.__aenter__())
        try:
            gateway = world(a)
            here = runner.run(gateway.__aenter__())
            ada = here.agent("ada", sampling={})

            @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
            @given(METAS, METAS)
            def passes(asked: dict[str, Any], answered: dict[str, Any]) -> None:
                answers.append(answered)
                result = runner.run(ada.result("tools/call", {"name": "t", "arguments": {}}, asked))
                arrived = seen.pop()
                kept = {
                    key: value for key, value in asked.items() if not key.startswith(HOP) and key != "progressToken"
                }
                assert {key: value for key, value in arrived.items() if key in kept} == kept
                added = set(arrived) - set(kept)
                assert added == {
                    "dev.radium.gateway/idempotencyKey",
                    "progressToken",
                    f"{HOP}protocolVersion",
                    f"{HOP}clientInfo",
                    f"{HOP}clientCapabilities",
                    *({f"{HOP}logLevel"} & set(asked)),
                } - set(kept), "its own keys are the hop's and a vendor's"
                assert arrived[f"{HOP}clientInfo"]["name"] == "radium-mcp-gateway"
                expected = {key: value for key, value in answered.items() if key != f"{HOP}logLevel"}
                assert {key: value for key, value in result["_meta"].items() if key != SERVER_INFO} == expected

            passes()
        finally:
            if gateway is not None:
                runner.run(gateway.__aexit__(None, None, None))
            runner.run(serving.__aexit__(None, None, None))


# -- schemas, and faults of lists ------------------------------------------------------------------------------------


async def test_schemas_keep_their_bytes_and_no_reference_is_followed() -> None:
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        trap.setblocking(False)
        remote = f"http://127.0.0.1:{trap.getsockname()[1]}/schema.json"
        schema = (
            b'{"type":"object", "$defs":{"n":{"$anchor":"node","properties":{"next":{"$ref":"#node"}}}},'
            b'"properties":{"a":{"$ref":"#/$defs/n"},"b":{"$ref":"%b"},"c":{"const":1.0},"d":{"maximum":1e2},'
            b'"e":{"const":123456789012345678901234567890}}}' % remote.encode()
        )
        definition = b'{"name":"t","outputSchema":%b,  "inputSchema":%b}' % (schema, schema)

        def listed(message: dict[str, Any]) -> bytes | None:
            head = b'{"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":['
            return head + definition + b"]}" if message["method"] == "tools/list" else None

        a = Offering("a", override=listed)
        async with a.serving(), world(a) as here:
            assert definition in await here.agent().raw("tools/list")
            await here.agent().ask("tools/call", {"name": "t", "arguments": {}})
        with pytest.raises(BlockingIOError):
            trap.accept()


async def test_ten_thousand_tools_are_listed() -> None:
    many = [{"name": f"t{number}", "inputSchema": {"type": "object"}} for number in range(11_000)]
    body = json.dumps({"resultType": "complete", "ttlMs": 0, "cacheScope": "public", "tools": many}).encode()
    a = Offering("a", override=lambda message: body if message["method"] == "tools/list" else None)
    b = Offering("b", [tool("small")], hints=SHARED)
    async with a.serving(), b.serving(), world(a, b) as here:
        await until(lambda: len(here.gateway.catalog.snapshot.tools) == 10_001)
        await here.agent().result("tools/list")
        assert any("does not end" in warning for warning in here.gateway.tools()["warnings"]), "cut, and said so"


async def test_a_tool_that_vanished_costs_one_refresh() -> None:
    a = Offering("a", [tool("t"), tool("u")], hints=SHARED, announces=False)

    async def gone(params: types.CallToolRequestParams) -> None:
        if params.name not in {found.name for found in a.tools}:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name}")

    a.calling = gone
    async with a.serving(), world(a) as here:
        ada, before = here.agent(), a.listed.count("tools/list")
        a.tools = [tool("u")]
        assert await ada.error("tools/call", {"name": "t", "arguments": {}}) == INVALID_PARAMS
        await until(lambda: list(here.gateway.catalog.snapshot.tools) == ["u"])
        assert await ada.error("tools/call", {"name": "t", "arguments": {}}) == INVALID_PARAMS
        assert a.listed.count("tools/list") - before == 1
        assert len(a.called) == 1, "the second call ended in the gateway"


async def test_a_storm_of_changes_is_fetched_once_a_second() -> None:
    a = Offering("a", [tool("t")], hints=SHARED)
    async with a.serving(), world(a) as here:
        before, started = a.listed.count("tools/list"), time.monotonic()
        changes = here.upstream("a").published.changes
        while time.monotonic() - started < 1.5:
            await a.tell(ToolsListChanged())
        await until(lambda: here.upstream("a").published.changes > changes + 10)
        assert 1 <= a.listed.count("tools/list") - before <= 3
