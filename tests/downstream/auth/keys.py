"""An authenticating plugin whose verdicts the tests decide, and calls with its keys."""

import asyncio
from typing import Any

from gateway_core import Credentials, Plugin, PluginConfig, Principal, Reject, hookimpl

ECHO = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "echo"}}


class Keys(Plugin[PluginConfig]):
    """Knows `Bearer key-NAME`; can be slow, fail, and change its mind."""

    credential_headers = ("authorization", "x-api-key")
    challenges = ('Bearer resource_metadata="http://gw.example/.well-known/oauth-protected-resource"', "Key")
    well_known = {"oauth-protected-resource": {"resource": "http://gw.example/mcp"}}  # noqa: RUF012 - a constant here
    remember = 60.0

    def __init__(self, config: PluginConfig | None = None) -> None:
        super().__init__(config or PluginConfig())
        self.asked: list[Credentials] = []
        self.groups: list[str] = []
        self.claims: dict[str, Any] = {}
        self.expires: float | None = None
        self.revoked: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    @hookimpl
    async def authenticate(self, credentials: Credentials) -> Principal | Reject | None:
        self.asked.append(credentials)
        await self.gate.wait()
        if self.broken:
            raise ZeroDivisionError
        key = credentials.bearer or credentials.headers.get("x-api-key")
        if key is None or not key.startswith("key-"):
            return None
        name = key.removeprefix("key-")
        if name in self.revoked or name == "wrong":
            return Reject(f"the key of {name} is revoked")
        return Principal.proven(name, issuer="keys", groups=self.groups, claims=self.claims, expires=self.expires)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-{name}"}


async def call(world: Any, helpers: Any, way: str, headers: dict[str, str]) -> Any:
    """One call as a modern agent, or a whole legacy session with one."""
    if way == "modern":
        given, body = helpers.modern("tools/call", {"name": "echo"})
        return await world.post(body, {**given, **headers})
    answer = await world.post(helpers.initialize(), headers)
    if answer.status != 200:
        return answer
    session = {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25", **headers}
    await world.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
    return await world.post(ECHO, session)
