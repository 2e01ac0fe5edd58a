"""The API of the control plane, as a running gateway serves it and as it describes it."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from gateway_core.cli.running import instance
from tests.acceptance.conftest import RAD, SERVERS, Rad, Recorder, wait_until

CONFIG = f"""
[mcp.proxy]
enable = true
port = {{port}}

[[mcp.proxy.upstreams]]
name = "demo"
transport = "stdio"
command = {sys.executable!r}
args = ["-m", "gateway_core.demo.stdio_server"]

[[mcp.proxy.upstreams]]
name = "second"
transport = "stdio"
command = {sys.executable!r}
args = ["-m", "gateway_core.demo.stdio_server"]

[[mcp.proxy.upstreams]]
name = "gone"
transport = "http"
url = "http://127.0.0.1:9/mcp"

[[mcp.proxy.upstreams]]
name = "off"
transport = "stdio"
command = "false"
enabled = false

[[mcp.proxy.plugins]]
name = "security_ratelimit"
rate_limit_per_minute = 7

[[mcp.proxy.plugins]]
name = "conflict_autoprefix"

[[mcp.proxy.plugins]]
name = "observe_metrics"
token = "scrape-me-please"
"""

LIGHT = CONFIG.replace('["-m", "gateway_core.demo.stdio_server"]', f'["{SERVERS / "desk.py"}", "wiki"]')
"""The same with servers that start in no time, for tests that start them again and again."""

ENDS = ("/admin/restart",)
"""Addresses that end the gateway."""
SETTINGS = """
[[operations]]
include-path-regex = "^/admin/(config|upstreams|diff|reload|calls/recent|log)"
checks.positive_data_acceptance.expected-statuses = ["2xx", 403, 404, 409, 422]

[[operations]]
include-path = "/readyz"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 503]
"""
"""What is written into a configuration may be wrong although it has the right types; and upstreams get disabled.
Names of outcomes are texts in the description."""

CLOSED = '"additionalProperties": false, "type": "object", "properties"'
"""So that the answer has no member that the description lacks."""


class Api:
    """The control plane of a gateway."""

    def __init__(self, gateway: Rad) -> None:
        self.gateway = gateway
        found = instance(gateway.config)
        self.address, self.token, self.reading = found.control_address, found.token, found.read_token

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.reading}"}
        with urllib.request.urlopen(urllib.request.Request(self.address + path, headers=headers)) as answer:
            return json.load(answer)


def started(gateway: Callable[..., Rad], config: str) -> Api:
    running = gateway(config)
    wait_until(lambda: running.is_healthy("demo", "second"), 60, "the connection")
    return Api(running)


@pytest.fixture(scope="module")
def shared(shared_gateway: Callable[..., Rad]) -> Api:
    """The API of one gateway, for tests that only read."""
    return started(shared_gateway, CONFIG)


@pytest.fixture
def api(gateway: Callable[..., Rad]) -> Api:
    return started(gateway, LIGHT)


@pytest.fixture
def busy(api: Api, recorder: Callable[..., Recorder], gateway: Callable[..., Rad]) -> Iterator[Api]:
    """The same with a session of a legacy agent and a call in flight."""
    slow = recorder("slow")
    with api.gateway.config.open("a") as file:
        file.write(f'\n[[mcp.proxy.upstreams]]\nname = "slow"\ntransport = "http"\nurl = "{slow.url}"\n')
    assert api.gateway.run("reload").returncode == 0
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    urllib.request.urlopen(urllib.request.Request(api.gateway.url, json.dumps(body).encode(), headers)).close()
    command = [str(RAD), "mcp", "proxy", "call", "slow", "--config", str(api.gateway.config)]
    agent = subprocess.Popen(
        [*command, "--arg", "call_id=1", "--arg", "seconds=300"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: any(one["sent"] for one in api.get("/admin/calls")["calls"]), 60, "the call")
        yield api
    finally:
        agent.kill()
        agent.wait(10)


@pytest.mark.timeout(400)
def test_what_a_busy_gateway_answers_agrees_with_the_description(busy: Api) -> None:
    """A tool that generates requests meets no call and no session by chance."""
    described = busy.get("/admin/openapi.json")
    found = {path: busy.get(path) for path in ("/admin/status", "/admin/calls", "/admin/sessions", "/admin/tools")}
    assert {one["state"] for one in found["/admin/status"]["upstreams"]} > {"healthy", "disabled"}
    assert found["/admin/calls"]["calls"]
    assert found["/admin/sessions"]["sessions"]
    for path, answer in found.items():
        content = described["paths"][path]["get"]["responses"]["200"]["content"]
        schema = {**content["application/json"]["schema"], "components": described["components"]}
        closed = json.loads(json.dumps(schema).replace('"type": "object", "properties"', CLOSED))
        OAS31Validator(closed).validate(answer)


@pytest.mark.timeout(400)
def test_every_answer_agrees_with_the_description(api: Api, tmp_path: Path) -> None:
    described = api.get("/admin/openapi.json")
    (tmp_path / "openapi.json").write_text(json.dumps(described))
    streams = [
        path
        for path, item in described["paths"].items()
        if "text/event-stream" in item.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    ]
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", "openapi.json", "--url", api.address]
    command += ["--header", f"Authorization: Bearer {api.token}", "--phases", "coverage,fuzzing", "--mode", "all"]
    command += ["--max-examples", "4", "--seed", "1", "--generation-database", "none", "--no-color"]
    command += [option for path in (*streams, *ENDS) for option in ("--exclude-path", path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=350, check=False)
    assert done.returncode == 0, done.stdout[-20_000:]
    operations = sum(len(item) for item in described["paths"].values()) - len(streams) - len(ENDS)
    assert int(done.stdout.partition("Tested: ")[2].split()[0]) == operations


def test_the_catalog_says_where_each_entry_comes_from(shared: Api) -> None:
    found = shared.get("/admin/tools")
    resources = {one["uri"]: one for one in found["resources"]}
    assert {one["original_uri"] for one in resources.values()} == {"toolbox://glossary"}
    assert sorted(owner for one in resources.values() for owner in one["upstreams"]) == ["demo", "second"]
    templates = [(one["original_uri_template"], one["upstreams"]) for one in found["templates"]]
    assert ("toolbox://glossary/{term}", ["demo"]) in templates
    prompts = {one["name"]: one for one in found["prompts"]}
    first = next(one for one in prompts.values() if one["upstreams"] == ["demo"])
    assert first["name"] == first["original_name"]
    assert prompts[f"second__{first['name']}"]["original_name"] == first["name"]
    assert all(one["description"] for one in (*prompts.values(), *resources.values()))
    assert first["arguments"] == [{"name": "term", "description": "", "required": True}]
    assert {one["kind"] for one in found["conflicts"]} >= {"tool", "prompt"}
    assert found["profiles"] == []


def test_plugins_stand_in_their_order_with_settings_but_without_secrets(shared: Api) -> None:
    found = shared.get("/admin/plugins")["plugins"]
    assert [one["name"] for one in found] == ["security_ratelimit", "conflict_autoprefix", "observe_metrics"]
    limits, _, metrics = found
    assert limits["settings"]["rate_limit_per_minute"] == 7
    assert limits["hooks"]
    assert metrics["settings"]["token"] == "[REDACTED]"
    assert "scrape-me-please" not in json.dumps(found)
