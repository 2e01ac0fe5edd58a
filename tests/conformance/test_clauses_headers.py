"""Clauses on the headers of modern agents (2026-07-28, basic/transports/streamable-http; SEP-2243)."""

import base64
import json
from typing import Any

import aiohttp
import pytest

from gateway_core import Call, Reject, hookimpl

MISMATCH, UNSUPPORTED, INVALID_PARAMS = -32020, -32022, -32602


def encoded(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


class Watcher:
    """A plugin that remembers the calls that it saw, and does with them what it is told to."""

    def __init__(self, act: Any = lambda call: None) -> None:
        self.calls: list[Call] = []
        self._act = act

    @hookimpl
    def before_call(self, call: Call) -> Any:
        self.calls.append(call)
        return self._act(call)


# -- 9, 10: the protocol version ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, "2025-11-25", "1900-01-01", ""])
async def test_clause_09_the_version_header_is_that_of_the_body(stand: Any, version: str | None) -> None:
    answer = await stand.modern("tools/list", MCP_Protocol_Version=version)
    assert (answer.status, answer.code, answer.json["id"]) == (400, MISMATCH, 1)


async def test_clause_09_a_version_header_given_twice_is_refused(stand: Any, msg: Any) -> None:
    headers, body = msg.modern("tools/list")
    lines = [("Host", "localhost"), ("Content-Type", "application/json"), ("Connection", "close"), *headers.items()]
    payload = json.dumps(body).encode()
    lines += [("mcp-protocol-version", "2026-07-28"), ("Content-Length", str(len(payload)))]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    answer = await stand.raw(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + payload)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == MISMATCH


async def test_clause_09_a_legacy_session_is_not_left_by_a_header(legacy_stand: Any) -> None:
    session = await legacy_stand.initialize()
    for version, status in [("2025-11-25", 200), ("2025-06-18", 200), ("2026-07-28", 400), ("1900-01-01", 400)]:
        answer = await legacy_stand.legacy({**session, "MCP-Protocol-Version": version}, "tools/list")
        assert answer.status == status


@pytest.mark.parametrize("version", ["1900-01-01", "2099-12-31", "2025-11-25"])
async def test_clause_10_an_unsupported_version_is_told_the_supported_ones(stand: Any, msg: Any, version: str) -> None:
    meta = {"_meta": {"io.modelcontextprotocol/protocolVersion": version}}
    answer = await stand.modern("tools/list", meta, MCP_Protocol_Version=version)
    assert (answer.status, answer.code) == (400, UNSUPPORTED)
    data = answer.json["error"]["data"]
    assert (data["supported"], data["requested"]) == (["2026-07-28"], version)


async def test_clause_10_a_version_of_no_era_is_refused_without_a_body_that_tells(stand: Any, msg: Any) -> None:
    headers = {"MCP-Protocol-Version": "1900-01-01"}
    answer = await stand.send("POST", headers, msg.legacy("tools/list"))
    assert (answer.status, answer.code) == (400, UNSUPPORTED)


# -- 12, 13: method and name ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Mcp_Method": None},
        {"Mcp_Method": "prompts/get"},
        {"Mcp_Method": "TOOLS/CALL"},
        {"Mcp_Name": None},
        {"Mcp_Name": "route"},
        {"Mcp_Name": "Echo"},
    ],
)
async def test_clause_12_method_and_name_are_those_of_the_body(stand: Any, msg: Any, headers: Any) -> None:
    answer = await stand.modern("tools/call", msg.calling("echo"), **headers)
    assert (answer.status, answer.code) == (400, MISMATCH)
    assert not stand.lab.of("tools/call")


async def test_clause_12_an_upstream_gets_its_own_name(start: Any, msg: Any) -> None:
    stand = await start("modern", "modern", proxy='replicas = "declared"')
    answer = await stand.modern("tools/call", msg.calling("lab1__echo", text="x"))
    assert answer.text == "x"
    (seen,) = stand.labs["lab1"].of("tools/call")
    assert (seen.headers["mcp-name"], seen.params["name"]) == ("echo", "echo")
    assert not stand.labs["lab0"].of("tools/call")


NAMES = [
    (encoded("echo"), 200),
    (" echo ", 200),  # whitespace around a value is none of it (RFC 9110 5.5)
    ("=?base64?ZWNobw?=", 400),
    ("=?base64?ZWN!!obw==?=", 400),
    ("=?BASE64?ZWNobw==?=", 400),
    ("ZWNobw==", 400),
    ("=?base64?ZWNobw==", 400),
]


async def test_clause_13_an_encoded_name_is_decoded_before_it_is_compared(stand: Any, msg: Any) -> None:
    for value, status in NAMES:
        answer = await stand.modern("tools/call", msg.calling("echo", text="x"), Mcp_Name=value)
        assert answer.status == status, value
        assert status == 200 or answer.code == MISMATCH


async def test_clause_13_names_of_headers_have_no_case(stand: Any, msg: Any) -> None:
    headers, body = msg.modern("tools/call", msg.calling("route", region="eu"))
    for change in (str.upper, str.lower):
        sent = {change(name): value for name, value in {**headers, "Mcp-Param-Region": "eu"}.items()}
        assert (await stand.send("POST", sent, body)).status == 200


# -- 14: parameters in headers --------------------------------------------------------------------------------------


MATCHING = [
    ({"region": "us west 1"}, {"Region": "us west 1"}),
    ({"region": " us "}, {"Region": encoded(" us ")}),
    ({"region": "日本"}, {"Region": encoded("日本")}),
    ({"region": "a\r\nb"}, {"Region": encoded("a\r\nb")}),
    ({"region": "=?base64?literal?="}, {"Region": encoded("=?base64?literal?=")}),
    ({"region": "plain"}, {"Region": encoded("plain")}),
    ({"region": "SGVsbG8="}, {"Region": "SGVsbG8="}),
    ({"region": ""}, {"Region": ""}),
    ({"count": 42}, {"Count": "42"}),
    ({"count": 42}, {"Count": "42.0"}),
    ({"count": -7}, {"Count": "-7"}),
    ({"flag": True, "count": 0}, {"Flag": "true", "Count": "0"}),
    ({"flag": False}, {"Flag": "false"}),
    ({"query": "no header"}, {}),
    ({}, {}),
]
CONTRADICTING = [
    ({"region": "eu"}, {"Region": "us"}),
    ({"region": "eu"}, {"Region": "EU"}),
    ({"region": "eu"}, {}),
    ({}, {"Region": "eu"}),
    ({"region": None}, {"Region": "eu"}),
    ({"region": "Hello"}, {"Region": "=?base64?SGVsbG8?="}),
    ({"region": "Hello"}, {"Region": "=?base64?SGVs!!!bG8=?="}),
    ({"region": "Hello"}, {"Region": "=?base64?SGVsbG8="}),
    ({"region": "eu"}, {"Region": "na\xefve"}),
    ({"count": 42}, {"Count": "43"}),
    ({"count": 42}, {"Count": "42.5"}),
    ({"flag": True}, {"Flag": "True"}),
    ({"region": "eu", "count": 1}, {"Region": "eu"}),
    ({"region": ["eu"]}, {"Region": "eu"}),
]


async def test_clause_14_a_header_that_matches_its_argument_passes(stand: Any, msg: Any) -> None:
    for arguments, headers in MATCHING:
        sent = {f"Mcp-Param-{name}": value for name, value in headers.items()}
        answer = await stand.modern("tools/call", msg.calling("route", **arguments), **sent)
        assert answer.status == 200, (arguments, answer.body)
        assert json.loads(answer.text).items() >= arguments.items()
    assert len(stand.lab.of("tools/call")) == len(MATCHING)


@pytest.mark.parametrize("tool", ["route", "lab0:route"])
async def test_clause_14_a_header_that_does_not_match_is_refused_before_its_server_sees_the_call(
    stand: Any, msg: Any, tool: str
) -> None:
    for arguments, headers in CONTRADICTING:
        sent = {f"Mcp-Param-{name}": value for name, value in headers.items()}
        answer = await stand.modern("tools/call", msg.calling(tool, **arguments), 7, **sent)
        assert (answer.status, answer.code, answer.json["id"]) == (400, MISMATCH, 7), (arguments, headers)
    assert not stand.lab.of("tools/call")


async def test_clause_14_arguments_that_parsers_read_differently_match_no_header(stand: Any, msg: Any) -> None:
    headers, body = msg.modern("tools/call", msg.calling("route", region="eu"))
    twice = json.dumps(body).replace('{"region": "eu"}', '{"region": "us", "region": "eu"}').encode()
    answer = await stand.send("POST", {**headers, "Mcp-Param-Region": "eu"}, twice)
    assert (answer.status, answer.code) == (400, MISMATCH)
    assert not stand.lab.of("tools/call")


async def test_clause_14_an_unrecognised_header_travels_on_unchanged(stand: Any, msg: Any) -> None:
    odd = {"Mcp-Param-Tenant": "t 1", "mcp-param-other": "=?base64?not base64"}
    answer = await stand.modern("tools/call", msg.calling("route", region="eu"), **{"Mcp-Param-Region": "eu"}, **odd)
    assert answer.status == 200
    (seen,) = stand.lab.of("tools/call")
    found = {name: value for name, value in seen.headers.items() if name.startswith("mcp-param-")}
    assert found == {"mcp-param-region": "eu", "mcp-param-tenant": "t 1", "mcp-param-other": "=?base64?not base64"}


async def test_clause_14_a_recognised_header_of_a_legacy_upstream_is_compared_too(legacy_stand: Any, msg: Any) -> None:
    params = msg.calling("route", region="eu")
    assert (await legacy_stand.modern("tools/call", params, Mcp_Param_Region="us")).code == MISMATCH
    answer = await legacy_stand.modern("tools/call", params, Mcp_Param_Region="eu", Mcp_Param_Other="x")
    assert answer.status == 200
    (seen,) = legacy_stand.lab.of("tools/call")
    assert not [name for name in seen.headers if name.startswith("mcp-param-")]


async def test_clause_14_legacy_agents_have_no_such_headers(stand: Any, msg: Any) -> None:
    session = await stand.initialize()
    headers = {**session, "Mcp-Param-Region": "us", "Mcp-Param-Other": "x"}
    answer = await stand.legacy(headers, "tools/call", msg.calling("route", region="eu"))
    assert json.loads(answer.text)["region"] == "eu"
    (seen,) = stand.lab.of("tools/call")
    assert (seen.headers["mcp-param-region"], seen.headers.get("mcp-param-other")) == ("eu", None)


async def test_clause_14_where_there_are_no_headers_none_are_missed(stand: Any) -> None:
    """As for an agent on stdio, and for the operator's own calls."""
    result = await stand.gateway.call_once("route", {"region": "eu"})
    assert json.loads(result.content["content"][0]["text"])["region"] == "eu"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({"region": "us", "count": 5}, ("us", "5")), ({"count": 5}, (None, "5")), ({}, (None, None))],
)
async def test_clause_14_after_a_plugins_rewrite_the_headers_are_those_of_the_new_body(
    start: Any, msg: Any, arguments: Any, expected: Any
) -> None:
    stand = await start("modern", plugins=[Watcher(lambda call: call.replace(arguments=arguments))])
    params = msg.calling("route", region="eu", query="q")
    answer = await stand.modern("tools/call", params, Mcp_Param_Region="eu", Mcp_Param_Tenant="t")
    assert answer.status == 200, answer.body
    (seen,) = stand.lab.of("tools/call")
    assert (seen.headers.get("mcp-param-region"), seen.headers.get("mcp-param-count")) == expected
    assert seen.headers["mcp-param-tenant"] == "t"


async def test_clause_14_after_a_plugins_rename_the_headers_are_those_of_the_new_tool(start: Any, msg: Any) -> None:
    stand = await start("modern", plugins=[Watcher(lambda call: call.replace(name="route", arguments={"count": 3}))])
    answer = await stand.modern("tools/call", msg.calling("echo", text="x"), Mcp_Param_Region="eu")
    assert answer.status == 200, answer.body
    (seen,) = stand.lab.of("tools/call")
    assert (seen.headers["mcp-name"], seen.headers["mcp-param-count"]) == ("route", "3")
    assert "mcp-param-region" not in seen.headers


async def test_clause_14_a_header_that_was_compared_does_not_reach_another_tool(start: Any, msg: Any) -> None:
    stand = await start("modern", plugins=[Watcher(lambda call: call.replace(name="echo", arguments={"text": "x"}))])
    answer = await stand.modern("tools/call", msg.calling("route", region="secret"), Mcp_Param_Region="secret")
    assert answer.text == "x"
    (seen,) = stand.lab.of("tools/call")
    assert not [name for name in seen.headers if name.startswith("mcp-param-")]


# -- 17, 18: what headers are good for ------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Mcp-Param-Region", "Mcp-Name", "Mcp-Method"])
async def test_clause_17_mirrored_headers_count_for_nothing_without_a_modern_version(
    stand: Any, msg: Any, header: str
) -> None:
    headers, body = msg.modern("tools/call", msg.calling("route", region="eu"))
    del headers["MCP-Protocol-Version"]
    answer = await stand.send("POST", {**headers, header: "x"}, body)
    assert (answer.status, answer.code) == (400, MISMATCH)
    without_meta = await stand.send("POST", {header: "x"}, msg.legacy("tools/call", msg.calling("route")))
    assert without_meta.status == 400
    assert not stand.lab.of("tools/call")


async def test_clause_18_headers_authorize_no_agent(start: Any, msg: Any) -> None:
    """A rule about the tenant reads the body, whatever the header says; a header that says otherwise ends the call."""
    watcher = Watcher(lambda call: Reject("not yours") if call.arguments.get("region") != "mine" else None)
    stand = await start("modern", plugins=[watcher])
    own = await stand.modern("tools/call", msg.calling("route", region="mine"), Mcp_Param_Region="mine")
    other = await stand.modern("tools/call", msg.calling("route", region="theirs"), Mcp_Param_Region="theirs")
    lied = await stand.modern("tools/call", msg.calling("route", region="theirs"), Mcp_Param_Region="mine")
    odd = await stand.modern("tools/call", msg.calling("route", region="mine"), Mcp_Param_Region="theirs")
    assert (own.status, other.code, lied.code, odd.code) == (200, -31003, -31003, MISMATCH)
    spoofed = dict.fromkeys(("Mcp-Param-Principal", "X-Forwarded-User", "Authorization", "Cookie"), "admin")
    await stand.modern("tools/call", msg.calling("echo"), **spoofed)
    assert len({call.principal.id for call in watcher.calls}) == 1
    assert len(stand.lab.of("tools/call")) == 1


# -- 11, 19, 52: status codes of the modern era ---------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ping", "initialize", "logging/setLevel", "resources/subscribe", "no/such"])
async def test_clause_11_an_unknown_method_is_404_for_modern_agents_alone(stand: Any, method: str) -> None:
    answer = await stand.modern(method)
    assert (answer.status, answer.code, answer.json["id"]) == (404, -32601, 1)
    old = await stand.legacy(await stand.initialize(), "no/such")
    assert (old.status, old.code) == (200, -32601)


@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities", "_meta"])
async def test_clause_19_required_meta_is_not_invented(stand: Any, msg: Any, missing: str) -> None:
    headers, body = msg.modern("tools/call", msg.calling("echo"))
    if missing == "_meta":
        del body["params"]["_meta"]
    else:
        del body["params"]["_meta"][f"io.modelcontextprotocol/{missing}"]
    answer = await stand.send("POST", headers, body)
    assert (answer.status, answer.code) == (400, INVALID_PARAMS)
    assert not stand.lab.of("tools/call")


@pytest.mark.parametrize("verb", ["GET", "DELETE"])
@pytest.mark.parametrize("extra", [{}, {"Mcp-Session-Id": "x", "Last-Event-ID": "y-1"}])
async def test_clause_52_modern_agents_have_post_alone(stand: Any, verb: str, extra: dict[str, str]) -> None:
    answer = await stand.send(verb, {"MCP-Protocol-Version": "2026-07-28", **extra})
    assert answer.status == 405
    assert answer.headers["Allow"] == "POST, OPTIONS"


async def test_clause_52_session_ids_and_event_ids_mean_nothing_to_modern_requests(stand: Any, msg: Any) -> None:
    session = (await stand.initialize())["Mcp-Session-Id"]
    for known in (session, "unknown"):
        answer = await stand.modern(
            "tools/call", msg.calling("echo", text="x"), Mcp_Session_Id=known, Last_Event_ID="a-1"
        )
        assert answer.text == "x"
        assert "Mcp-Session-Id" not in answer.headers
    stand.lab.released.set()
    headers, body = msg.modern("tools/call", msg.calling("steps", "t"))
    async with stand.http.post(stand.url, headers=headers, json=body) as response:
        assert response.content_type == "text/event-stream"
        assert b"\nid:" not in b"\n" + await response.read()


async def test_clause_22_requests_on_one_connection_are_strangers(stand: Any, msg: Any) -> None:
    """Two modern agents and a legacy one, interleaved on one socket."""
    session = await stand.initialize()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        for number in range(3):
            for name in ("one", "two"):
                meta = {"_meta": {"io.modelcontextprotocol/clientInfo": {"name": name, "version": "1"}}}
                headers, body = msg.modern("tools/call", {**msg.calling("echo", text=name), **meta}, number)
                async with http.post(stand.url, headers=headers, json=body) as response:
                    found = await response.json()
                    assert (found["id"], found["result"]["content"][0]["text"]) == (number, name)
                    assert "Mcp-Session-Id" not in response.headers
            body = msg.legacy("tools/call", msg.calling("echo", text="old"), number)
            async with http.post(stand.url, headers=session, json=body) as response:
                assert (await response.json())["id"] == number
            async with http.post(stand.url, json=body) as response:  # nor is the session that of the connection
                assert response.status == 400
