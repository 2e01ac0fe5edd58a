"""A gateway with the complete configuration and most plugins starts, answers and stops; `make check` runs this."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import aiohttp

from gateway_core.config import Config, load
from gateway_core.config.docs import COMPLETE
from gateway_core.gateway import Gateway
from tests.complete_kit import ENV, write_files

MORE_PLUGINS = ("audit_log", "auth_apikey", "observe_metrics", "security_approval", "security_policy")


async def test_a_gateway_with_the_complete_configuration_starts_answers_and_stops(tmp_path: Path) -> None:
    write_files(tmp_path)
    text = re.sub(r'^url = ".*"$', 'url = "https://127.0.0.1:9/mcp"', COMPLETE, flags=re.MULTILINE)
    text = re.sub(r'^command = ".*"$', 'command = "false"', text, flags=re.MULTILINE)
    text = text.replace("/var/lib/radium", str(tmp_path / "state"))
    plugins = "".join(f'\n[[mcp.proxy.plugins]]\nname = "{name}"\n' for name in MORE_PLUGINS)
    path = tmp_path / "mcp-proxy.toml"
    path.write_text(text + plugins)
    path.chmod(0o600)
    found = load(path, ENV)
    config = Config(found.path, found.proxy.model_copy(update={"port": 0}), found.disabled)
    assert "https://127.0.0.1:9/mcp" in {upstream.url for upstream in config.proxy.upstreams}
    gateway = Gateway(config)
    await gateway.start()
    try:
        trust = ssl.create_default_context(cafile=str(tmp_path / "company-ca.pem"))
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{gateway.address}/healthz", ssl=trust) as answer:
                assert answer.status == 200
            async with http.post(f"{gateway.address}/mcp", ssl=trust, json={}) as answer:
                assert answer.status == 401, "it needs a key"
        status = gateway.status()
        assert {upstream["name"] for upstream in status["upstreams"]} >= {"files", "search", "tickets"}
        assert {plugin["name"] for plugin in status["plugins"]} >= {*MORE_PLUGINS}
    finally:
        await gateway.stop()
