"""Clauses on servers over stdio, and on finding out which era a server speaks: 27, 48, 49, 50, 60.

Sources: basic/transports/stdio, basic/patterns/cancellation (Timeouts), basic/versioning (Backward Compatibility) of
2026-07-28. Behind the gateway is `servers/pipe.py`, whose mistakes no real server makes on demand.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from loguru import logger

from gateway_core.config import loads
from gateway_core.errors import ConfigError
from gateway_core.upstream.transports import negotiation as era

PIPE = Path(__file__).parent / "servers" / "pipe.py"
CANCELLED = "notifications/cancelled"
STARTED, END_OF_INPUT, SIGTERM = b"# started", b"# end of input", b"# SIGTERM"


@dataclass
class Piped:
    """A gateway before `pipe.py`, and what that wrote down."""

    stand: Any
    journal: Path

    def lines(self) -> list[bytes]:
        return self.journal.read_bytes().split(b"\n")[:-1]

    def messages(self, method: str = "") -> list[dict[str, Any]]:
        """What it read, with that method."""
        found = [json.loads(line) for line in self.lines() if not line.startswith(b"#")]
        return [message for message in found if method in ("", message["method"])]

    async def call(self, tool: str, **arguments: Any) -> Any:
        return await self.stand.modern("tools/call", {"name": f"pipe:{tool}", "arguments": arguments})

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.01)


Begin = Callable[..., Awaitable[Piped]]


@pytest.fixture
def begin(start: Any, tmp_path: Path) -> Begin:
    """Start a gateway before it: `await begin("modern", "stubborn", top="timeout = 1", keys="env = {}")`."""

    async def started(*flags: str, top: str = "", keys: str = "") -> Piped:
        journal = tmp_path / "journal"
        journal.touch()
        args = json.dumps([str(PIPE), str(journal), *flags])
        table = f'[[mcp.proxy.upstreams]]\nname = "pipe"\ntransport = "stdio"\ncommand = "{sys.executable}"\n'
        stand = await start("modern", proxy=f"{top}\n{table}args = {args}\n{keys}")
        return Piped(stand, journal)

    return started


@pytest.fixture
def warnings() -> AsyncIterator[list[str]]:
    """What is logged from WARNING on, a line each."""
    found: list[str] = []
    number = logger.add(lambda message: found.append(f"{message} {message.record['extra']}"), level="WARNING")
    yield found
    logger.remove(number)


# -- 27, 48: lines --------------------------------------------------------------------------------------------------


async def test_clause_27_an_answer_that_comes_too_late_is_ignored(begin: Begin, warnings: list[str]) -> None:
    piped = await begin("modern", top="timeout = 2.0")
    ended = (await piped.call("late")).json["result"]
    assert ended["isError"] is True
    assert "Outcome unknown" in ended["content"][0]["text"]
    assert (await piped.call("echo", text="next")).text == "next", "its own answer, not the late one"
    assert any("late or repeated response" in warning for warning in warnings)


async def test_clause_48_a_message_is_one_line_whatever_is_in_it(begin: Begin, msg: Any) -> None:
    piped = await begin("modern")
    text = "a\nb\r\nc\u2028d\u0085e"
    assert (await piped.call("echo", text=text)).text == text
    headers, body = msg.modern("tools/call", {"name": "pipe:echo", "arguments": {"text": text}})
    spread = await piped.stand.send("POST", headers, json.dumps(body, indent=1, ensure_ascii=False).encode())
    assert spread.text == text
    first, second = piped.messages("tools/call")
    assert first["params"]["arguments"] == second["params"]["arguments"] == {"text": text}
    assert all(message["jsonrpc"] == "2.0" for message in piped.messages()), "and nothing else is on stdin"


async def test_clause_48_noise_is_skipped_and_stderr_is_no_error(begin: Begin, warnings: list[str]) -> None:
    piped = await begin("modern")
    assert (await piped.call("noisy", text="heard")).text == "heard"
    assert (await piped.call("echo", text="on")).text == "on"
    assert piped.lines().count(STARTED) == 1
    (warning,) = [line for line in warnings if "changed hands" not in line]
    assert "malformed message" in warning
    states = {upstream["name"]: upstream["state"] for upstream in piped.stand.gateway.status()["upstreams"]}
    assert states["pipe"] == "healthy"


# -- 49: the life of a process --------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [("modern",), ("code=-32601",)])
async def test_clause_49_a_call_is_cancelled_by_a_notification(begin: Begin, flags: tuple[str, ...]) -> None:
    piped = await begin(*flags)
    leaving = asyncio.ensure_future(piped.call("silent"))
    await piped.until(lambda: piped.messages("tools/call"))
    leaving.cancel()
    await piped.until(lambda: piped.messages(CANCELLED))
    (call,), (notice,) = piped.messages("tools/call"), piped.messages(CANCELLED)
    assert notice["params"]["requestId"] == call["id"]
    assert "id" not in notice


async def test_clause_49_stopping_closes_stdin_then_terminates_then_kills(begin: Begin) -> None:
    piped = await begin("modern", "stubborn")
    pid = int((await piped.call("pid")).text)
    async with asyncio.timeout(8):
        await piped.stand.gateway.stop()
    assert [line for line in piped.lines() if line.startswith(b"#")] == [STARTED, END_OF_INPUT, SIGTERM]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_clause_49_a_process_that_ended_is_started_again(begin: Begin) -> None:
    piped = await begin("modern")
    assert (await piped.call("die")).json["result"]["isError"] is True
    await piped.until(lambda: piped.lines().count(STARTED) == 2)
    async with asyncio.timeout(10):
        while "result" not in (answer := await piped.call("echo", text="again")).json:
            await asyncio.sleep(0.05)
    assert answer.text == "again"
    assert len([call for call in piped.messages("tools/call") if call["params"]["name"] == "die"]) == 1


# -- 50: eras -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["silent", "code=-32601", "code=-32602", "code=-32000", "supports=2025-11-25"])
async def test_clause_50_whatever_is_not_modern_is_legacy(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.setitem(era.negotiate.__kwdefaults__, "probe_timeout", 0.3)
    piped = await begin(flag)
    assert (await piped.call("echo", text="here")).text == "here"
    methods = [message["method"] for message in piped.messages()]
    assert methods[:3] == ["server/discover", "initialize", "notifications/initialized"]
    assert methods.count("tools/call") == 1, "the agent's; no call is made to find out"
    assert methods.count("server/discover") == 1, "the era is remembered for the life of the process"


async def test_clause_50_a_modern_error_is_no_reason_to_fall_back(begin: Begin) -> None:
    piped = await begin("supports=2199-01-01")
    assert {message["method"] for message in piped.messages()} == {"server/discover"}
    assert (await piped.call("echo")).code == -31001
    assert not piped.messages("tools/call")


def error_body(code: int, **data: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": "ID", "error": {"code": code, "message": "no", "data": data}})


@pytest.mark.parametrize(
    ("status", "body", "legacy"),
    [
        (400, "", True),
        (400, "Bad Request", True),
        (404, "", True),
        (400, error_body(-32600), True),
        (400, error_body(-32022, supported=["2199-01-01"]), False),
    ],
)
async def test_clause_50_over_http_the_body_of_a_refusal_decides(
    start: Any, status: int, body: str, legacy: bool
) -> None:
    methods: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        message = await request.json()
        methods.append(message["method"])
        if message["method"] == "server/discover":
            text = body.replace('"ID"', json.dumps(message["id"]))
            kind = "application/json" if text.startswith("{") else "text/plain"
            return web.Response(status=status, text=text, content_type=kind)
        return web.Response(status=500)

    server = web.ServerRunner(web.Server(answer))
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{server.addresses[0][1]}/mcp"
        await start("modern", proxy=f'[[mcp.proxy.upstreams]]\nname = "odd"\ntransport = "http"\nurl = "{url}"')
        assert methods[:2] == (["server/discover", "initialize"] if legacy else ["server/discover"])
    finally:
        await server.cleanup()


# -- 60: credentials ------------------------------------------------------------------------------------------------


def test_clause_60_oauth_is_refused_for_stdio(tmp_path: Path) -> None:
    text = """
[[mcp.proxy.upstreams]]
name = "pipe"
transport = "stdio"
command = "server"
[mcp.proxy.upstreams.auth]
auth_type = "oauth"
client_id = "id"
client_secret = "secret"
"""
    with pytest.raises(ConfigError, match=r"stdio, which has no OAuth; .* through env"):
        loads(f"[mcp.proxy]\nenable = true\n{text}", tmp_path / "mcp-proxy.toml", {})


async def test_clause_60_credentials_come_by_the_environment(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_OF_PIPE", "s3cr3t")
    monkeypatch.setenv("TOKEN_OF_OTHERS", "hidden")
    piped = await begin("modern", keys='env = { TOKEN = "${TOKEN_OF_PIPE}" }')
    environment = json.loads((await piped.call("environment")).text)
    assert environment["TOKEN"] == "[REDACTED]", "the server has it, and agents do not get it"
    assert not {"TOKEN_OF_PIPE", "TOKEN_OF_OTHERS"} & environment.keys()
    assert b"s3cr3t" not in piped.journal.read_bytes()
