"""A gateway in this process with its control plane, whose file the test writes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway_core.gateway import Gateway
from tests.generations.conftest import Stand

CHANGE, READ = "change-sesame-1", "read-sesame-1"


class Controlled(Stand):
    """A stand with a control plane."""

    http: aiohttp.ClientSession

    async def start(self, *upstreams: dict[str, Any], **settings: Any) -> None:
        self.write(*upstreams, **settings)
        self.gateway = Gateway(self.read(), admin_token=CHANGE, read_token=READ, source=self)
        await self.gateway.start_control("127.0.0.1", 0)
        await self.gateway.start()
        await self.gateway.wait_first_discovery(60)

    async def ask(self, method: str, path: str, body: Any = None, token: str = CHANGE) -> tuple[int, dict[str, Any]]:
        """The status and the answer of a request."""
        headers = {"Authorization": f"Bearer {token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = f"{self.gateway.control.address}/admin/{path}"
        data = None if body is None else json.dumps(body)
        async with self.http.request(method, url, data=data, headers=headers) as response:
            found: dict[str, Any] = await response.json()
            return response.status, found


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Controlled]:
    """A stand that is not started yet."""
    made = Controlled(tmp_path / "mcp-proxy.toml")
    async with aiohttp.ClientSession() as made.http:
        try:
            yield made
        finally:
            if hasattr(made, "gateway"):
                await made.gateway.stop()
