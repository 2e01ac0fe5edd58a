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
"""The servers that the client has not switched off."""


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


def test_a_second_import_adds_nothing_new(rad, project):
    assert rad("import", str(FOURTEEN), "--write").returncode == 0
    config = project / ".radium" / "mcp-proxy.toml"
    before = config.read_bytes()
    again = rad("import", str(FOURTEEN), "--write")
    assert again.returncode == 0
    assert "nothing new" in again.stderr
    assert "left out" not in again.stderr
    assert config.read_bytes() == before


def test_another_server_of_a_name_that_is_taken_is_left_out(rad, project, tmp_path):
    source = tmp_path / "mcp.json"
    source.write_text('{"mcpServers": {"one": {"url": "http://127.0.0.1:1/mcp"}}}')
    assert rad("import", str(source), "--write").returncode == 0
    source.write_text('{"mcpServers": {"one": {"url": "http://127.0.0.1:2/mcp"}, "two": {"command": "x"}}}')
    found = rad("import", str(source), "--write")
    assert found.returncode == 1
    assert 'left out: mcpServers.one: the configuration already has an upstream "one"' in found.stderr
    source.write_text('{"mcpServers": {"two": {"command": "x"}, "three": {"command": "x"}}}')
    found = rad("import", str(source), "--write")
    assert found.returncode == 0, found.stderr
    assert "already there: two" in found.stderr


@pytest.mark.parametrize("write", [(), ("--write",)])
def test_a_transport_that_the_gateway_does_not_have_is_not_supported(rad, tmp_path, write):
    source = tmp_path / "mcp.json"
    one, two = {"type": "ws", "url": "https://x.example/mcp"}, {"url": "wss://x.example/mcp?token=plainsecret99"}
    source.write_text(json.dumps({"mcpServers": {"one": one, "two": two}}))
    found = rad("import", str(source), *write)
    assert found.returncode == 1
    assert 'left out: mcpServers.one: type "ws" is not supported' in found.stderr
    assert "left out: mcpServers.two: a url with wss:// is not supported" in found.stderr
    assert "plainsecret99" not in found.stdout + found.stderr


@pytest.mark.parametrize("write", [(), ("--write",)])
def test_the_address_of_the_configuration_is_this_gateway(rad, project, tmp_path, write):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text("[mcp.proxy]\nenable = true\nport = 3456\n")
    source = tmp_path / "mcp.json"
    radium = {"command": "npx", "args": ["-y", "mcp-remote", "http://127.0.0.1:3456/mcp"]}
    source.write_text(json.dumps({"mcpServers": {"radium": radium, "b": {"url": "http://localhost:3000/mcp"}}}))
    found = rad("import", str(source), *write)
    assert "left out: mcpServers.radium: is this gateway" in found.stderr
    assert "mcpServers.b: is" not in found.stderr


def test_no_secret_of_arguments_reaches_the_file_or_the_terminal(rad, project, tmp_path):
    uuid = "0f8fad5b-d9cb-469f-a165-70867728950e"
    args = [
        ["mcp-remote", f"https://mcp.exa.ai/mcp?api_key={uuid}"],
        ["mcp-remote", "https://x.example/mcp?token=plainsecret99"],
        ["--config", '{"apiToken":"jsonsecret1","region":"eu"}'],
        ['--options={"password":"jsonsecret2"}'],
        ["-psecretpw99"],
        ["-u", "me:userpw7"],
        ["-c", "API_KEY=shellsecret4 npx -y server"],
        ['DB_CONN="Server=db;Password=Passw0rd9;"', "npx"],
        ["--hook", "https://hooks.slack.com/services/T01/B02/slacksecret5"],
        ["mcp-remote", "https://mcp.zapier.com/api/mcp/s/zapsecret6/mcp"],
    ]
    secrets = [
        uuid,
        "plainsecret99",
        "jsonsecret1",
        "jsonsecret2",
        "secretpw99",
        "userpw7",
        "shellsecret4",
        "Passw0rd9",
    ]
    secrets += ["slacksecret5", "zapsecret6"]
    servers = {f"s{index}": {"command": "npx", "args": one, "link": one[-1]} for index, one in enumerate(args)}
    source = tmp_path / "mcp.json"
    source.write_text(json.dumps({"mcpServers": servers}))
    found = rad("import", str(source), "--write")
    assert found.returncode == 0, found.stderr
    text = (project / ".radium" / "mcp-proxy.toml").read_text()
    for secret in secrets:
        assert secret not in text + found.stdout + found.stderr
    assert 'url = "https://mcp.exa.ai/mcp?api_key=${S0_API_KEY}" replace mcp-remote' in found.stderr
    assert "note: look through args and urls for secrets that have no usual form" in found.stderr
    value = json.loads(rad("import", str(source), "--json").stdout)
    assert len(value["variables"]) == len(args)
    upstreams = tomllib.loads(value["toml"])["mcp"]["proxy"]["upstreams"]
    assert upstreams[2]["args"] == ["--config", '{"apiToken":"${S2_APITOKEN}","region":"eu"}']
    assert upstreams[6]["args"] == ["-c", "API_KEY=${API_KEY} npx -y server"]


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
