"""Shapes of several clients, and the result of each member."""

import json
import tomllib

import pytest

from gateway_core.cli.importing.client_file import read
from gateway_core.cli.importing.convert import convert


@pytest.fixture
def converted(tmp_path):
    """`converted({"mcpServers": …})`: the conversion, and its upstreams as TOML reads them."""

    def run(value, *, name="mcp.json", taken=()):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        found = convert(read(path), taken=taken)
        upstreams = tomllib.loads(found.toml())["mcp"]["proxy"]["upstreams"] if found.upstreams else []
        return found, upstreams

    return run


def servers(**members):
    return {"mcpServers": {"one": members}}


def test_vs_code_has_inputs_comments_and_variables(converted, tmp_path):
    text = """{
      // servers of the team
      "inputs": [{"type": "promptString", "id": "perplexity-key", "description": "Perplexity API Key"}],
      "servers": {
        "Perplexity": {
          "type": "stdio",
          "command": "npx",
          "args": ["-y", "server-perplexity", "${workspaceFolder}/data"],
          "env": {"PERPLEXITY_API_KEY": "${input:perplexity-key}", "ROOT": "${userHome}/x", "LEVEL": "${env:LEVEL}"},
          "envFile": "${workspaceFolder}/.env",
        },
        "remote": {"type": "http", "url": "https://example.com/mcp", "headers": {"Authorization": "Bearer ${input:t}"}},
      },
    }"""
    found, (first, second) = converted(text, name=".vscode/mcp.json")
    assert first["args"] == ["-y", "server-perplexity", f"{tmp_path}/data"]
    assert first["env"] == {"PERPLEXITY_API_KEY": "${PERPLEXITY_KEY}", "ROOT": "${HOME}/x", "LEVEL": "${LEVEL}"}
    assert second["headers"] == {"Authorization": "Bearer ${T}"}
    assert found.variables.purposes["PERPLEXITY_KEY"] == ["Perplexity API Key"]
    assert any("envFile" in note for note in found.comments["Perplexity"])


@pytest.mark.parametrize(
    ("members", "transport"),
    [
        ({"url": "https://x.example/mcp"}, "http"),
        ({"url": "https://x.example/sse"}, "sse"),
        ({"url": "https://x.example/sse", "type": "http"}, "http"),
        ({"url": "https://x.example/a", "type": "sse"}, "sse"),
        ({"serverUrl": "https://x.example/mcp"}, "http"),
        ({"httpUrl": "https://x.example/mcp"}, "http"),
        ({"url": "https://x.example/mcp", "type": "streamableHttp"}, "http"),
        ({"url": "https://x.example/mcp", "transport": "streamable-http"}, "http"),
        ({"command": "x", "type": "stdio"}, "stdio"),
        ({"command": "x"}, "stdio"),
    ],
)
def test_the_transport_follows_from_what_clients_write(converted, members, transport):
    _, (one,) = converted(servers(**members))
    assert one["transport"] == transport


@pytest.mark.parametrize(
    "value",
    [
        {"mcpServers": {"one": {"command": "x"}}},
        {"servers": {"one": {"command": "x"}}},
        {"mcp": {"servers": {"one": {"command": "x"}}}},
        {"context_servers": {"one": {"command": "x"}}},
        {"context_servers": {"one": {"source": "custom", "command": {"path": "x", "args": []}}}},
        {"projects": {"/home/me/app": {"mcpServers": {"one": {"command": "x"}}}}},
    ],
)
def test_servers_are_found_where_clients_keep_them(converted, value):
    found, (one,) = converted(value)
    assert (one["name"], one["command"]) == ("one", "x")
    assert not found.left_out


def test_names_fit_and_stay_distinct(converted):
    names = ["a b", "a-b", "a__b", "über", "!!!", "x" * 80]
    _, upstreams = converted({"mcpServers": {name: {"command": "x"} for name in names}})
    assert [one["name"] for one in upstreams] == ["a-b", "a-b-2", "a_b", "ber", "server", "x" * 64]


def test_equal_variables_with_different_values_stay_apart(converted):
    found, (a, b, c) = converted(
        {
            "mcpServers": {
                "a": {"command": "x", "env": {"API_KEY": "first-value"}},
                "b": {"command": "x", "env": {"API_KEY": "other-value"}},
                "c": {"command": "x", "env": {"API_KEY": "first-value"}},
            }
        }
    )
    assert [one["env"]["API_KEY"] for one in (a, b, c)] == ["${API_KEY}", "${B_API_KEY}", "${API_KEY}"]
    assert found.variables.purposes["API_KEY"] == ["env.API_KEY of a", "env.API_KEY of c"]


def test_references_of_the_program_itself_are_kept_for_it(converted):
    found, (one,) = converted(
        servers(
            command="npx",
            args=["mcp-remote", "https://x.example/mcp", "--header", "Authorization:${AUTH_HEADER}"],
            env={"AUTH_HEADER": "Bearer abcdefgh12345"},
        )
    )
    assert one["args"][-1] == "Authorization:$${AUTH_HEADER}"
    assert one["env"] == {"AUTH_HEADER": "${AUTH_HEADER}"}
    assert list(found.variables.purposes) == ["AUTH_HEADER"]


def test_a_dollar_brace_that_is_no_variable_is_kept(converted):
    found, (one,) = converted(servers(command="sh", args=["-c", "echo ${1+x} ${unclosed"]))
    assert one["args"] == ["-c", "echo $${1+x} $${unclosed"]
    assert any("has no meaning here" in note for note in found.comments["one"])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--header", "X-Api-Key: abc"], ["--header", "X-Api-Key: ${ONE_X_API_KEY}"]),
        (["--header", "X-Team: shop"], ["--header", "X-Team: shop"]),
        (["-e", "API_TOKEN=abc", "image"], ["-e", "API_TOKEN=${API_TOKEN}", "image"]),
        (["-e", "API_TOKEN", "image"], ["-e", "API_TOKEN", "image"]),
        (["--token", "--verbose"], ["--token", "--verbose"]),
        (["--api-key", "abc", "rest"], ["--api-key", "${ONE_API_KEY}", "rest"]),
        (["--key-file", "/etc/key"], ["--key-file", "/etc/key"]),
        (["--max-tokens", "100"], ["--max-tokens", "100"]),
        ([3000, 1.5], ["3000", "1.5"]),
    ],
)
def test_secrets_in_arguments_become_variables(converted, args, expected):
    _, (one,) = converted(servers(command="x", args=args))
    assert one["args"] == expected


def test_a_url_keeps_no_secret(converted):
    found, (one,) = converted(servers(url="https://me:pw12@x.example/mcp?apiKey=abc123&team=a%20b#part"))
    assert one["url"] == "https://x.example/mcp?apiKey=${ONE_APIKEY}&team=a%20b"
    assert one["headers"] == {"Authorization": "Basic ${ONE_BASIC}"}
    assert set(found.variables.purposes) == {"ONE_APIKEY", "ONE_BASIC"}


def test_credentials_of_a_url_are_decoded_for_the_header(converted):
    found, _ = converted(servers(url="https://me:p%40ss@x.example/mcp"))
    assert found.variables.hold("bWU6cEBzcw==", "ONE_BASIC", "one", "the same value") == "${ONE_BASIC}"


def test_unknown_members_are_named_and_their_secrets_are_not_shown(converted):
    found, _ = converted(servers(command="x", trust=True, oauth={"clientSecret": "s3cr3t"}, apiKey="s3cr3t", note="hi"))
    (line,) = [note for note in found.comments["one"] if note.startswith("not carried over")]
    assert line == 'not carried over: trust = true, oauth, apiKey, note = "hi"'
    assert "s3cr3t" not in found.toml()


def test_a_command_line_in_one_text_is_split(converted):
    _, (one,) = converted(servers(command="npx -y 'a b'"))
    assert (one["command"], one["args"]) == ("npx", ["-y", "a b"])


def test_the_gateway_does_not_import_itself(converted):
    found, upstreams = converted(servers(command="/x/rad", args=["mcp", "proxy", "start", "--stdio"]))
    assert upstreams == []
    assert found.left_out == ["mcpServers.one: is this gateway"]


@pytest.mark.parametrize(
    "members",
    [5, None, [], {}, {"command": 5}, {"command": ""}, {"command": "x", "args": "y"}, {"type": "ws"}, {"command": "'"}],
)
def test_a_wrong_server_is_left_out_with_a_reason(converted, members):
    found, upstreams = converted({"mcpServers": {"bad": members, "good": {"command": "x"}}})
    assert [one["name"] for one in upstreams] == ["good"] or members == {"command": "'"}
    assert len(found.left_out) + len(upstreams) == 2


def test_a_default_is_kept_unless_it_is_a_secret(converted):
    env = {"LEVEL": "${LEVEL:-info}", "API_KEY": "${API_KEY:-hunter2}", "PLAIN": "${env:PLAIN:-ghp_0123456789abcdef}"}
    found, (one,) = converted(servers(command="x", env=env))
    assert one["env"] == {"LEVEL": "${LEVEL:-info}", "API_KEY": "${API_KEY}", "PLAIN": "${PLAIN}"}
    assert list(found.variables.purposes) == ["API_KEY", "PLAIN"]
    assert [note for note in found.comments["one"] if "default" in note] == [
        "not carried over: the default of API_KEY",
        "not carried over: the default of PLAIN",
    ]
    assert "hunter2" not in found.toml()
    assert "ghp_" not in found.toml()
