"""`rad mcp proxy access`: what it prints, for whom, and what it refuses."""

import json
import sys

import pytest
from gateway_security_policy.commands import app
from typer.testing import CliRunner

FILE = f"""
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "demo"
transport = "stdio"
command = {sys.executable!r}
args = ["-m", "gateway_core.demo.stdio_server"]

[[mcp.proxy.plugins]]
name = "security_policy"
"""
RULES = """
[[mcp.proxy.plugins.rules]]
name = "admins"
groups = ["admins"]
then = "allow"

[[mcp.proxy.plugins.rules]]
tools = ["add"]
when = "arguments.a < 10"
then = "allow"

[[mcp.proxy.plugins.rules]]
issuers = ["https://id.example"]
scopes = ["read"]
tiers = ["read"]
when = 'principal.claims.team == "red"'
then = "allow"

[[mcp.proxy.plugins.rules]]
name = "interns"
groups = ["interns"]
then = "ask"
remember = "session"
"""


@pytest.fixture
def access(tmp_path):
    """`access(rules, …)` runs the command in this process."""

    def run(*arguments, rules=RULES, file=FILE):
        path = tmp_path / "mcp-proxy.toml"
        path.write_text(file + rules)
        return CliRunner().invoke(app, [*arguments, "--config", str(path)])

    return run


def test_all_tools_with_their_decisions(access):
    found = access("--as", "alice", "--json")
    assert found.exit_code == 0, found.stderr
    shown = json.loads(found.stdout)
    assert shown["principal"] == "alice|"
    assert {tool["name"]: (tool["decision"], tool["rule"]) for tool in shown["tools"]} == {
        "add": ("depends", None),
        "word_count": ("deny", None),
        "now": ("deny", None),
        "lookup": ("deny", None),
    }
    table = access("--as", "alice").stdout
    assert "no rule matches" in table
    assert "depends on the arguments" in table


def test_one_tool_with_every_rule_that_was_tried(access):
    text = access("--as", "alice", "demo:add").stdout
    assert text.startswith("add: depends (depends on the arguments)\n")
    assert "at upstream demo, tier read: depends" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("admins", "rule "))]
    assert ["admins", "allow", "no", "groups"] in rows
    assert ["rule", "2", "allow", "depends", "when"] in rows
    assert ["rule", "3", "allow", "no", "scopes"] in rows


@pytest.mark.parametrize(
    ("options", "decision", "rule"),
    [
        (["--as", "group:admins"], "allow", 1),
        (["--as", "x", "--group", "admins"], "allow", 1),
        (["--as", "x", "--arguments", '{"a": 1}'], "allow", 2),
        (["--as", "x", "--arguments", '{"a": 10}'], "deny", None),
        (["--as", "x", "--group", "interns", "--arguments", "{}"], "ask", 4),
        (["--as", "x@127.0.0.1", "--unverified", "--arguments", '{"a": 10}'], "deny", None),
        (
            [
                *("--as", "x", "--scope", "read", "--issuer", "https://id.example"),
                *("--claims", '{"team": "red"}', "--arguments", "{}"),
            ],
            "allow",
            3,
        ),
    ],
)
def test_who_asks_with_what(access, options, decision, rule):
    found = access(*options, "add", "--json")
    (tool,) = json.loads(found.stdout)["tools"]
    assert (tool["decision"], tool["rule"]) == (decision, rule)
    assert [step["rule"] for step in tool["at"][0]["rules"]][-1] == (rule or 4)


def test_what_a_person_should_know(access):
    assert "add --issuer" in access("--as", "x").stderr
    assert "everything is allowed" in access("--as", "x", rules="").stderr
    assert 'mode is "report"' in access("--as", "x", rules='mode = "report"' + RULES).stderr
    free = json.loads(access("--as", "x", "--json", rules="").stdout)
    assert {tool["decision"] for tool in free["tools"]} == {"allow"}
    other = FILE.replace("security_policy", "security_ratelimit")
    assert "security_policy is not enabled" in access("--as", "x", rules="", file=other).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--as", "x", "nothing"], "no tool nothing: its calls are denied"),
        (["--as", "x", "--arguments", "[1]"], "no JSON object"),
        (["--as", "x", "--claims", "{"], "no JSON"),
        (["--as", "x@y", "--unverified", "--group", "g"], "proves nothing"),
        (["--as", "group:g", "--unverified"], "proves nothing"),
    ],
)
def test_wrong_usage_is_refused(access, options, message):
    found = access(*options)
    assert found.exit_code != 0
    assert message in found.stderr + str(found.exception)


def test_a_rule_that_cannot_be_compiled_is_named_with_its_line(access):
    found = access("--as", "x", rules=RULES.replace("arguments.a <", "argument.a <"))
    line = (FILE + RULES).splitlines().index('when = "arguments.a < 10"') + 1
    assert f"mcp-proxy.toml:{line}: " in str(found.exception)
    assert "rules[1].when: is not valid CEL: undeclared reference to 'argument.a'" in str(found.exception)
