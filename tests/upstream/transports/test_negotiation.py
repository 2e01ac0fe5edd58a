"""Negotiation over a wire that the test writes; over real servers it is tested with each transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from gateway_core.errors import NotSent, OutcomeUnknown, RefusedUpstream, RpcError
from gateway_core.upstream.base import NoMcpAnswer, ServerInfo
from gateway_core.upstream.request_body import with_meta
from gateway_core.upstream.requests import Reply
from gateway_core.upstream.transports.handshakes import MAX_INSTRUCTIONS
from gateway_core.upstream.transports.negotiation import negotiate


def name_of(value: object) -> str:
    """A test id that is the same in every process: functions by name, the rest as text."""
    return getattr(value, "__name__", str(value))


DISCOVERED = {
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {"listChanged": True}},
    "instructions": "Ask nicely.",
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "modern", "version": "2"}},
}
INITIALIZED = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"prompts": {}},
    "serverInfo": {"name": "legacy", "version": "1"},
    "instructions": "Ask twice.",
}

Answer = Reply | Exception | Callable[[], Awaitable[Reply]]


class FakeWire:
    """Gives the scripted answers in turn and remembers what was sent."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent: list[str] = []
        self.params: list[Mapping[str, Any]] = []
        self.version = ""

    async def send(self, method: str, params: Mapping[str, Any]) -> Reply:
        self.sent.append(method)
        self.params.append(params)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else await answer()

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        self.sent.append(method)

    def adopt(self, protocol_version: str) -> None:
        self.version = protocol_version


def ok(value: Mapping[str, Any]) -> Reply:
    return Reply(result=json.dumps(value).encode())


def refused(code: int, data: Any = None) -> Reply:
    return Reply(error=RpcError(code, "no", data))


async def silence() -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_discover_result_means_modern() -> None:
    wire = FakeWire(ok(DISCOVERED))
    info = await negotiate(wire, None, capabilities={})
    assert info == ServerInfo("modern", "2026-07-28", {"tools": {"listChanged": True}}, "modern", "2", "Ask nicely.")
    assert wire.sent == ["server/discover"]
    assert wire.version == "2026-07-28"
    meta = wire.params[0]["_meta"]
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["io.modelcontextprotocol/clientInfo"]["name"] == "radium-mcp-gateway"
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {}


@pytest.mark.parametrize(
    "verdict",
    [
        refused(-32601),
        refused(-32602),
        refused(-32600),
        refused(-32000),
        NoMcpAnswer("HTTP 400"),
        NoMcpAnswer("HTTP 404"),
        silence,
        ok({"tools": []}),
        Reply(result=b'{"supportedVersions":"2026-07-28","capabilities":{}}'),
        ok({**DISCOVERED, "supportedVersions": ["2025-11-25", "2025-06-18"]}),
        refused(-32022, {"supported": ["2025-11-25"]}),
        refused(-32022),
    ],
    ids=name_of,
)
async def test_anything_but_evidence_of_modern_falls_back_to_initialize(verdict: Answer) -> None:
    wire = FakeWire(verdict, ok(INITIALIZED))
    info = await negotiate(wire, None, capabilities={}, probe_timeout=0.05)
    assert info == ServerInfo("legacy", "2025-06-18", {"prompts": {}}, "legacy", "1", "Ask twice.")
    assert wire.sent == ["server/discover", "initialize", "notifications/initialized"]
    assert wire.version == "2025-06-18"
    assert wire.params[1]["protocolVersion"] == "2025-11-25"
    assert wire.params[1]["capabilities"] == {}
    assert "_meta" not in wire.params[1]


async def test_a_version_that_both_speak_is_tried_instead_of_falling_back() -> None:
    wire = FakeWire(refused(-32022, {"supported": ["2026-07-28", "2027-01-01"]}), ok(DISCOVERED))
    assert (await negotiate(wire, None, capabilities={})).era == "modern"
    assert wire.sent == ["server/discover", "server/discover"]


async def test_no_version_in_common_with_a_modern_server_is_an_error_and_no_fallback() -> None:
    wire = FakeWire(refused(-32022, {"supported": ["2027-01-01"]}))
    with pytest.raises(RpcError) as caught:
        await negotiate(wire, None, capabilities={})
    assert caught.value.code == -32022
    assert wire.sent == ["server/discover"]


@pytest.mark.parametrize("code", [-32020, -32021])
async def test_a_modern_error_is_no_reason_to_fall_back(code: int) -> None:
    wire = FakeWire(refused(code))
    with pytest.raises(RpcError):
        await negotiate(wire, None, capabilities={})
    assert wire.sent == ["server/discover"]


async def test_a_server_that_woke_up_modern_during_the_probe_is_probed_again() -> None:
    wire = FakeWire(silence, refused(-32022, {"supported": ["2026-07-28"]}), ok(DISCOVERED))
    assert (await negotiate(wire, None, capabilities={}, probe_timeout=0.05)).era == "modern"
    assert wire.sent == ["server/discover", "initialize", "server/discover"]


def after(seconds: float, answer: Reply | Exception) -> Answer:
    async def late() -> Reply:
        await asyncio.sleep(seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return late


@pytest.mark.parametrize(
    ("discover", "initialize", "era"),
    [
        (after(0.3, ok(DISCOVERED)), silence, "modern"),
        (after(0.3, ok(DISCOVERED)), refused(-32601), "modern"),
        (after(0.3, ok(DISCOVERED)), NoMcpAnswer("HTTP 400"), "modern"),
        (after(0.3, ok(DISCOVERED)), after(0.2, ok(INITIALIZED)), "modern"),
        (silence, after(0.3, ok(INITIALIZED)), "legacy"),
        (after(0.3, refused(-32601)), after(0.4, ok(INITIALIZED)), "legacy"),
        (after(0.1, OutcomeUnknown("reset")), after(0.3, ok(INITIALIZED)), "legacy"),
    ],
)
async def test_an_answer_to_either_request_counts_however_late_it_is(
    discover: Answer, initialize: Answer, era: str
) -> None:
    wire = FakeWire(discover, initialize)
    assert (await negotiate(wire, None, capabilities={}, probe_timeout=0.05)).era == era
    assert wire.sent[:2] == ["server/discover", "initialize"]
    assert wire.version == ("2026-07-28" if era == "modern" else "2025-06-18")


async def test_a_modern_server_that_cannot_be_spoken_to_says_so_also_when_it_is_slow() -> None:
    wire = FakeWire(after(0.2, refused(-32021)), silence)
    with pytest.raises(RpcError):
        await negotiate(wire, None, capabilities={}, probe_timeout=0.05)


@pytest.mark.parametrize("outage", [NotSent("x"), OutcomeUnknown("x"), RefusedUpstream("x", status=401)], ids=repr)
async def test_an_outage_is_no_verdict(outage: Exception) -> None:
    wire = FakeWire(outage)
    with pytest.raises(type(outage)):
        await negotiate(wire, None, capabilities={})
    assert wire.sent == ["server/discover"]


async def test_a_server_known_to_be_legacy_is_not_probed() -> None:
    wire = FakeWire(ok(INITIALIZED))
    assert (await negotiate(wire, "legacy", capabilities={})).era == "legacy"
    assert wire.sent == ["initialize", "notifications/initialized"]


@pytest.mark.parametrize("failure", [refused(-32022, {"supported": ["2026-07-28"]}), refused(-32601), NoMcpAnswer("x")])
async def test_a_server_no_longer_legacy_is_probed_again(failure: Answer) -> None:
    wire = FakeWire(failure, ok(DISCOVERED))
    assert (await negotiate(wire, "legacy", capabilities={})).era == "modern"
    assert wire.sent == ["initialize", "server/discover"]


async def test_a_server_that_refuses_both_gives_the_refusal_of_initialize() -> None:
    with pytest.raises(RpcError) as caught:
        await negotiate(FakeWire(refused(-32601), refused(-32603)), None, capabilities={})
    assert caught.value.code == -32603
    with pytest.raises(RpcError) as caught:
        await negotiate(FakeWire(refused(-32603), refused(-32601)), "legacy", capabilities={})
    assert caught.value.code == -32603


async def test_a_legacy_transport_is_never_probed() -> None:
    wire = FakeWire(ok(INITIALIZED))
    assert (await negotiate(wire, "modern", capabilities={}, modern_possible=False)).era == "legacy"
    assert wire.sent[0] == "initialize"


@pytest.mark.parametrize("answer", [{**INITIALIZED, "protocolVersion": "1999-01-01"}, {"capabilities": {}}, [1]])
async def test_an_answer_to_initialize_that_cannot_be_used_is_an_error(answer: Any) -> None:
    with pytest.raises(RpcError):
        await negotiate(FakeWire(refused(-32601), ok(answer)), None, capabilities={})


MODERN = ServerInfo("modern", "2026-07-28")
LEGACY = ServerInfo("legacy", "2025-11-25")


def test_the_agents_own_keys_pass_and_those_of_its_hop_do_not() -> None:
    agent = {
        "traceparent": "00-1",
        "com.example/key": 1,
        "progressToken": "theirs",
        "io.modelcontextprotocol/protocolVersion": "theirs",
        "io.modelcontextprotocol/logLevel": "debug",
    }
    own = {"traceparent": "00-1", "com.example/key": 1}
    assert with_meta({"name": "t"}, LEGACY, {}, agent) == {"name": "t", "_meta": own}
    modern = with_meta({}, MODERN, {"roots": {}}, agent, 7)["_meta"]
    assert modern["traceparent"] == "00-1"
    assert modern["progressToken"] == 7
    assert modern["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert "io.modelcontextprotocol/logLevel" not in modern


def test_a_legacy_request_without_anything_to_say_has_no_meta() -> None:
    assert with_meta({"name": "t"}, LEGACY, {}) == {"name": "t"}
    assert with_meta({}, LEGACY, {}, {"progressToken": 1}) == {}


MANY = {f"c{number}": {} for number in range(10_000)}


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_server_with_capabilities_beyond_measure_is_refused(era: str) -> None:
    found = {**(DISCOVERED if era == "modern" else INITIALIZED), "capabilities": MANY}
    wire = FakeWire(Reply(json.dumps(found).encode()))
    with pytest.raises(RpcError, match="the server's capabilities are larger than 65536 bytes"):
        await negotiate(wire, None, capabilities={}, modern_possible=era == "modern")


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_little_is_kept_of_what_a_server_says_of_itself(era: str) -> None:
    """Each connection keeps it, and each agent's session may have one."""
    server = {"name": "n" * 1_000_000, "version": "v" * 1_000_000}
    if era == "modern":
        found: dict[str, Any] = {**DISCOVERED, "_meta": {"io.modelcontextprotocol/serverInfo": server}}
    else:
        found = {**INITIALIZED, "serverInfo": server}
    wire = FakeWire(Reply(json.dumps({**found, "instructions": "i" * 1_000_000}).encode()))
    info = await negotiate(wire, None, capabilities={}, modern_possible=era == "modern")
    assert (info.name, info.version) == ("n" * 256, "v" * 256)
    assert info.instructions == "i" * (MAX_INSTRUCTIONS + 1)
