"""The API of the control plane, as a running gateway serves it and as it describes it."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Rad, wait_until

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

[[mcp.proxy.plugins]]
name = "security_ratelimit"
rate_limit_per_minute = 7

[[mcp.proxy.plugins]]
name = "conflict_autoprefix"

[[mcp.proxy.plugins]]
name = "observe_metrics"
token = "scrape-me-please"
"""


class Api:
    """The control plane of a gateway."""

    def __init__(self, gateway: Rad) -> None:
        self.address = str(gateway.status()["control"])
        self.token = gateway.run("token", "--change").stdout.strip()
        self.reading = gateway.run("token").stdout.strip()

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.reading}"}
        with urllib.request.urlopen(urllib.request.Request(self.address + path, headers=headers)) as answer:
            return json.load(answer)


@pytest.fixture
def api(gateway: Callable[..., Rad]) -> Api:
    running = gateway(CONFIG)
    wait_until(lambda: running.is_healthy("demo") and running.is_healthy("second"), 60, "the connection")
    return Api(running)


@pytest.mark.timeout(400)
def test_every_answer_agrees_with_the_description(api: Api, tmp_path: Path) -> None:
    described = api.get("/admin/openapi.json")
    (tmp_path / "openapi.json").write_text(json.dumps(described))
    streams = [
        path
        for path, item in described["paths"].items()
        if "text/event-stream" in item.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    ]
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", "openapi.json", "--url", api.address]
    command += ["--header", f"Authorization: Bearer {api.token}", "--phases", "coverage,fuzzing", "--mode", "all"]
    command += ["--max-examples", "8", "--seed", "1", "--generation-database", "none", "--no-color"]
    command += [option for path in streams for option in ("--exclude-path", path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=350, check=False)
    assert done.returncode == 0, done.stdout[-20_000:]
    operations = sum(len(item) for item in described["paths"].values()) - len(streams)
    assert int(done.stdout.partition("Tested: ")[2].split()[0]) == operations


def test_the_catalog_says_where_each_entry_comes_from(api: Api) -> None:
    found = api.get("/admin/tools")
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


def test_plugins_stand_in_their_order_with_settings_but_without_secrets(api: Api) -> None:
    found = api.get("/admin/plugins")["plugins"]
    assert [one["name"] for one in found] == ["security_ratelimit", "conflict_autoprefix", "observe_metrics"]
    limits, _, metrics = found
    assert limits["settings"]["rate_limit_per_minute"] == 7
    assert limits["hooks"]
    assert metrics["settings"]["token"] == "[REDACTED]"
    assert "scrape-me-please" not in json.dumps(found)
