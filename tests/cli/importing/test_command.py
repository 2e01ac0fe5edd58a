"""`rad mcp proxy import`, with fourteen usual servers of a desktop client."""

import json
import tomllib
from pathlib import Path

import pytest

from gateway_core.config import load

FOURTEEN = Path(__file__).with_name("fourteen.json")
SECRETS = Path(__file__).with_name("secrets.txt").read_text().split()
NAMES = [
    *("filesystem", "github", "memory", "postgres", "brave-search", "Slack-Workspace", "sentry", "fetch", "git"),
    *("stripe", "linear", "notion", "context7", "tickets"),
]
RUNNING = [name for name in NAMES if name != "git"]
"""Those that the client has not switched off."""


def test_fourteen_servers_become_fourteen_upstreams_without_a_secret(rad):
    found = rad("import", str(FOURTEEN))
    assert found.returncode == 0, found.stderr
    upstreams = tomllib.loads(found.stdout)["mcp"]["proxy"]["upstreams"]
    assert [one["name"] for one in upstreams] == NAMES
    assert [one["name"] for one in upstreams if one.get("enabled", True)] == RUNNING
    assert "14 servers found: 14 upstreams" in found.stderr
    for secret in SECRETS:
        assert secret not in found.stdout + found.stderr


def test_every_variable_to_set_is_listed_and_used(rad):
    found = rad("import", str(FOURTEEN), "--json")
    value = json.loads(found.stdout)
    assert list(value["variables"]) == [
        "GITHUB_PERSONAL_ACCESS_TOKEN",
        "POSTGRES_ARGUMENT",
        "BRAVE_API_KEY",
        "SLACK_BOT_TOKEN",
        "SENTRY_AUTH_TOKEN",
        "STRIPE_API_KEY",
        "OPENAPI_MCP_HEADERS",
        "CONTEXT7_API_KEY",
        "TICKETS_TOKEN",
    ]
    for name in value["variables"]:
        assert f"${{{name}}}" in value["toml"]


def test_what_is_not_carried_over_is_reported(rad):
    found = rad("import", str(FOURTEEN))
    for said in (
        "note: brave-search: not carried over: alwaysAllow",
        "note: sentry: not carried over: timeout = 60",
        "note: context7: not carried over: headers.Accept",
        "note: git: is switched off in the client, so it has enabled = false",
        'note: Slack-Workspace: the client calls it "Slack Workspace"',
        'note: linear: unless it needs a login in a browser, transport = "http", url = "https://mcp.linear.app/mcp"',
    ):
        assert said in found.stderr


def test_write_makes_a_configuration_that_loads_with_the_secrets_in_their_places(rad, project, monkeypatch):
    config = project / ".radium" / "mcp-proxy.toml"
    config.unlink()
    (project / ".radium").rmdir()
    found = rad("import", str(FOURTEEN), "--write")
    assert found.returncode == 0, found.stderr
    assert f"added 14 upstreams to {config}" in found.stdout
    assert config.stat().st_mode & 0o777 == 0o600
    given = json.loads(FOURTEEN.read_text())["mcpServers"]
    environment = {
        "GITHUB_PERSONAL_ACCESS_TOKEN": given["github"]["env"]["GITHUB_PERSONAL_ACCESS_TOKEN"],
        "POSTGRES_ARGUMENT": given["postgres"]["args"][2],
        "BRAVE_API_KEY": given["brave-search"]["env"]["BRAVE_API_KEY"],
        "SLACK_BOT_TOKEN": given["Slack Workspace"]["env"]["SLACK_BOT_TOKEN"],
        "SENTRY_AUTH_TOKEN": given["sentry"]["args"][2],
        "STRIPE_API_KEY": "sk_test_51HqAbCdEfGhIjKlMn",
        "OPENAPI_MCP_HEADERS": given["notion"]["env"]["OPENAPI_MCP_HEADERS"],
        "CONTEXT7_API_KEY": "ctx7sk-0a1b2c3d",
        "TICKETS_TOKEN": "tk-998877665544",
    }
    loaded = load(config, environment)
    upstreams = loaded.proxy.upstreams
    assert [one.name for one in upstreams] == RUNNING
    assert [one.name for one in loaded.disabled] == ["git"]
    assert config.with_name(".gitignore").read_text() == "*\n"
    running = [server for name, server in given.items() if name != "git"]
    for upstream, server in zip(upstreams, running, strict=True):
        assert upstream.command == server.get("command")
        assert list(upstream.args) == server.get("args", [])
        assert upstream.env == server.get("env", {})
        assert upstream.url == server.get("url")
        assert upstream.headers == {k: v for k, v in server.get("headers", {}).items() if k != "Accept"}
    assert [one.transport for one in upstreams] == ["stdio"] * 11 + ["http", "sse"]


def test_a_second_import_adds_nothing_and_says_why(rad, project):
    assert rad("import", str(FOURTEEN), "--write").returncode == 0
    config = project / ".radium" / "mcp-proxy.toml"
    before = config.read_bytes()
    again = rad("import", str(FOURTEEN), "--write")
    assert again.returncode == 1
    assert 'left out: mcpServers.github: the configuration already has an upstream "github"' in again.stderr
    assert 'left out: mcpServers.git: the configuration already has an upstream "git"' in again.stderr
    assert config.read_bytes() == before


def test_a_configuration_with_mistakes_stays_as_it_is(rad, project):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text("[mcp.proxy]\nhots = 1\n")
    found = rad("import", str(FOURTEEN), "--write")
    assert found.returncode == 2
    assert "mcp-proxy.toml:2: mcp.proxy.hots" in found.stderr
    assert config.read_text() == "[mcp.proxy]\nhots = 1\n"


def test_upstreams_that_are_written_as_one_list_stay_as_they_are(rad, project):
    config = project / ".radium" / "mcp-proxy.toml"
    text = '[mcp.proxy]\nenable = true\nupstreams = [{ name = "a", transport = "http", url = "http://127.0.0.1:1" }]\n'
    config.write_text(text)
    found = rad("import", str(FOURTEEN), "--write")
    assert found.returncode == 1
    assert "which stays as it is" in found.stderr
    assert config.read_text() == text


def test_what_is_added_goes_below_what_is_there(rad, project, tmp_path):
    config = project / ".radium" / "mcp-proxy.toml"
    before = config.read_text()
    source = tmp_path / "mcp.json"
    source.write_text('{"mcpServers": {"one": {"url": "http://127.0.0.1:1/mcp"}}}')
    found = rad("import", str(source), "--write", "--config", str(config))
    assert found.returncode == 0, found.stderr
    assert f"rad mcp proxy check --config {config} --connect" in found.stderr
    assert config.read_text().startswith(before)
    assert [one.name for one in load(config).proxy.upstreams] == ["one"]


def test_a_server_that_cannot_be_converted_loses_no_other(rad, tmp_path):
    source = tmp_path / "mcp.json"
    source.write_text('{"mcpServers": {"a": 5, "b": {"command": "uvx", "args": ["x"]}, "c": {}}}')
    found = rad("import", str(source))
    assert found.returncode == 1
    assert [one["name"] for one in tomllib.loads(found.stdout)["mcp"]["proxy"]["upstreams"]] == ["b"]
    assert "left out: mcpServers.a: is not an object" in found.stderr
    assert "left out: mcpServers.c: has neither command nor url" in found.stderr
    assert "error: 2 of 3 servers left out" in found.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [("{oops", "is not JSON"), ("[]", "has no MCP servers"), ('{"mcpServers": {}}', "has no MCP servers")],
)
def test_a_file_without_servers_is_an_error(rad, tmp_path, text, said):
    source = tmp_path / "mcp.json"
    source.write_text(text)
    found = rad("import", str(source))
    assert found.returncode == 1
    assert found.stdout == ""
    assert said in found.stderr


def test_a_file_that_is_not_there_is_an_error(rad):
    found = rad("import", "gone.json")
    assert found.returncode == 1
    assert "gone.json: No such file" in found.stderr


def test_an_upstream_that_the_configuration_cannot_have_loses_no_other(rad, project, tmp_path):
    source = tmp_path / "mcp.json"
    good, bad = {"url": "${env:MCP_URL}"}, {"url": "ftp://x.example/mcp"}
    source.write_text(json.dumps({"mcpServers": {"one": good, "two": bad, "three": {"command": "x"}}}))
    found = rad("import", str(source), "--write")
    assert found.returncode == 1
    assert "left out: mcpServers.two: " in found.stderr
    config = project / ".radium" / "mcp-proxy.toml"
    upstreams = load(config, {"MCP_URL": "https://y.example/mcp"}).proxy.upstreams
    assert [(one.name, one.url) for one in upstreams] == [("one", "https://y.example/mcp"), ("three", None)]
