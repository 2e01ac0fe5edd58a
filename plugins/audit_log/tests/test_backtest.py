"""Back-tests: what other plugins and rules would have decided about recorded calls."""

import asyncio
import dataclasses
import json

import pytest
from gateway_audit_log.backtest_command import app
from gateway_audit_log.plugin import AuditLog
from gateway_security_ratelimit.plugin import RateLimit
from typer.testing import CliRunner

from gateway_core import Answer, Ask, Pass, Principal, Reject, hookimpl
from gateway_core.testing import FakeUpstream, FakeUser, configured, make_call, run_call

ALICE = Principal.proven("alice", issuer="keys", groups=["dev"], claims={"profile": "support", "team": "red"})
BOB = Principal.proven("bob", issuer="keys", groups=["ops"])
READS = {"readOnlyHint": True}
FILE = """
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "upstream"
transport = "http"
url = "http://127.0.0.1:9/mcp"
{upstream}

[[mcp.proxy.plugins]]
name = "audit_log"
"""
POLICY = '\n[[mcp.proxy.plugins]]\nname = "security_policy"\n'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def backtest(tmp_path, path):
    """`backtest(toml, …)` runs the command with `--json`; returns its exit code and what it printed."""

    def run(toml, *options, upstream="", status=None):
        config = tmp_path / "new.toml"
        config.write_text(FILE.replace("{upstream}", upstream) + toml)
        config.chmod(0o600)
        found = CliRunner().invoke(app, ["--config", str(config), "--json", *options])
        assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
        assert status is None or found.exit_code == status, found.output
        return json.loads(found.stdout)

    return run


def record(path, *calls, plugins=(), user=None, **settings):
    """Record calls as they go through plugins."""
    asyncio.run(_record(path, *calls, plugins=plugins, user=user, **settings))


async def _record(path, *calls, plugins, user, **settings):
    audit = configured(AuditLog, file=path, **settings)
    async with audit.instance:
        for call in calls:
            await run_call(call, FakeUpstream(), audit, *plugins, user=user)


def pairs(found):
    return {(one["was"], one["now"]): one["calls"] for one in found["decisions"]}


def test_the_same_rules_decide_the_same(path, backtest):
    record(path, make_call("read", {"a": 1}, principal=ALICE), make_call("read", principal=BOB))
    found = backtest("", status=0)
    assert (found["calls"], found["different"], found["undecided"]) == (2, 0, 0)
    assert found["differences"] == []


def test_plugins_that_only_log_arguments_do_not_need_them(path, backtest):
    record(path, make_call("read", {"a": 1}, principal=ALICE))
    rules = POLICY + '[[mcp.proxy.plugins.rules]]\nthen = "allow"\n'
    plugins = "".join(
        f'\n[[mcp.proxy.plugins]]\nname = "{name}"\n' for name in ("security_ratelimit", "security_redact")
    )
    found = backtest(plugins + rules, status=0)
    assert (found["calls"], found["undecided"]) == (1, 0)


def test_new_rules_decide_by_principal_tool_and_tier(path, backtest):
    calls = [
        make_call("read", principal=ALICE, annotations=READS),
        make_call("delete", principal=ALICE),
        make_call("read", principal=BOB, annotations=READS),
        make_call("read"),
        make_call("missing", known=False),
    ]
    record(path, *calls)
    rules = POLICY + (
        '[[mcp.proxy.plugins.rules]]\nname = "readers"\nprofiles = ["support"]\ntiers = ["read"]\nthen = "allow"\n'
        '[[mcp.proxy.plugins.rules]]\nname = "closed"\ntools = ["delete"]\nthen = "deny"\nreason = "ask the team"\n'
    )
    found = backtest(rules, status=1)
    assert pairs(found) == {("allow", "allow"): 1, ("allow", "refuse"): 3, ("unserved", "refuse"): 1}
    (deleted, other, *_) = found["differences"]
    assert (deleted["name"], deleted["principal"], deleted["was"]["decision"]) == ("delete", "alice|keys", "allow")
    assert deleted["now"] == {
        "decision": "refuse",
        "plugin": "security_policy",
        "rule": "closed",
        "reason": "ask the team",
    }
    assert (other["principal"], other["now"]["rule"]) == ("bob|keys", "no rule matches")
    assert found["claims_left_out"] == 2


def test_new_rules_decide_by_the_profile_that_the_agent_used(path, backtest):
    record(path, *(make_call("read", principal=dataclasses.replace(BOB, profile=name)) for name in ("small", "")))
    rules = POLICY + '[[mcp.proxy.plugins.rules]]\nprofiles = ["small"]\nthen = "allow"\n'
    assert pairs(backtest(rules, status=1)) == {("allow", "allow"): 1, ("allow", "refuse"): 1}


BY_ARGUMENTS = POLICY + (
    '[[mcp.proxy.plugins.rules]]\ntools = ["write"]\nwhen = \'arguments.path.startsWith("/etc")\'\nthen = "deny"\n'
    '[[mcp.proxy.plugins.rules]]\nthen = "allow"\n'
)


def test_what_depends_on_arguments_is_undecided_only_if_they_are_needed(path, backtest):
    record(path, make_call("write", {"path": "/etc/passwd"}), make_call("read", {"path": "/etc/passwd"}))
    found = backtest(BY_ARGUMENTS, status=0)
    assert pairs(found) == {("allow", "undecided"): 1, ("allow", "allow"): 1}
    assert found["undecided_because"] == {"the arguments were not recorded": 1}


def test_recorded_payloads_decide(path, backtest):
    calls = [make_call("write", {"path": one}) for one in ("/etc/passwd", "/home")]
    record(path, *calls, payloads=["*"])
    assert pairs(backtest(BY_ARGUMENTS, status=1)) == {("allow", "refuse"): 1, ("allow", "allow"): 1}


def test_payloads_in_which_something_is_hidden_do_not_decide(path, backtest):
    record(path, make_call("write", {"path": "/etc", "password": "x"}), payloads=["*"])
    assert pairs(backtest(BY_ARGUMENTS, status=0)) == {("allow", "undecided"): 1}


def test_rules_that_are_loosened(path, backtest):
    class Closed:
        @hookimpl
        def before_call(self, call):
            return Reject("no", rule="old") if call.principal is BOB else Pass("old")

    record(path, make_call(principal=ALICE), make_call(principal=BOB), plugins=[configured(Closed(), name="old")])
    found = backtest("", status=1)
    assert pairs(found) == {("allow", "allow"): 1, ("refuse", "allow"): 1}
    assert found["differences"][0]["was"] == {"decision": "refuse", "plugin": "old", "rule": "old"}


def test_rate_limits_count_in_the_time_of_the_record(path, backtest):
    """Ten calls, one every 6 seconds: none of them is over 10 a minute, whatever time the back-test takes."""
    record(path, *(make_call(principal=ALICE) for _ in range(10)))
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines[1:11]):
        entry = json.loads(line)
        entry["time"] = f"2024-05-06T12:00:{number * 6:02d}.000Z" if number < 10 else entry["time"]
        lines[number + 1] = json.dumps(entry)
    path.write_text("\n".join(lines) + "\n")
    limit = '\n[[mcp.proxy.plugins]]\nname = "security_ratelimit"\nrate_limit_per_minute = %d\nburst = 1\n'
    assert pairs(backtest(limit % 10, status=0)) == {("allow", "allow"): 10}
    found = backtest(limit % 5, status=1)
    assert pairs(found) == {("allow", "allow"): 5, ("allow", "refuse"): 5}
    assert found["differences"][0]["now"]["rule"] == "5 calls per minute"


def test_upstreams_that_the_configuration_no_longer_serves(path, backtest):
    calls = [
        make_call("read"),
        make_call("write"),
        make_call("read", upstreams=("gone",)),
        make_call("read", upstreams=("gone", "upstream")),
    ]
    record(path, *calls)
    found = backtest("", upstream='tools = ["read"]', status=1)
    assert pairs(found) == {("allow", "allow"): 2, ("allow", "unserved"): 2}
    assert pairs(backtest("", upstream="enabled = false")) == {("allow", "unserved"): 4}


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_question_that_would_be_asked_again_is_no_difference(path, backtest, era):
    class Asks:
        @hookimpl
        def before_call(self, call):
            return Pass("accepted") if call.answers else Ask("may it?", name="delete")

    call = make_call("delete", principal=ALICE, era=era)
    record(path, call, plugins=[configured(Asks(), name="asks")], user=FakeUser(Answer("accept")), payloads=["*"])
    approval = '\n[[mcp.proxy.plugins]]\nname = "security_approval"\nalways = ["delete"]\n'
    assert pairs(backtest(approval, status=0)) == {("ask", "ask"): 2 if era == "modern" else 1}
    assert set(pairs(backtest("", status=1))) == {("ask", "allow")}


def test_a_plugin_that_fails_is_a_difference(path, backtest, monkeypatch):
    record(path, make_call())
    monkeypatch.setattr(RateLimit, "_judge", lambda self, call: 1 / 0)
    found = backtest('\n[[mcp.proxy.plugins]]\nname = "security_ratelimit"\ncalls_per_day = 5\n', status=1)
    assert pairs(found) == {("allow", "fail"): 1}
    assert found["differences"][0]["now"]["plugin"] == "security_ratelimit"


def test_lists_and_other_entries_are_not_judged(path, backtest):
    record(path, make_call("", method="tools/list"), make_call())
    found = backtest("", status=0)
    assert (found["calls"], found["skipped"]) == (1, {"lists": 1})


def test_every_method_is_judged(path, backtest):
    methods = ["prompts/get", "resources/read", "resources/subscribe", "completion/complete", "tasks/get"]
    record(path, *(make_call("x", method=method, principal=ALICE) for method in methods))
    assert backtest("", status=0)["calls"] == len(methods)
    rules = '[[mcp.proxy.plugins.rules]]\nprompts = ["x"]\nresources = ["x"]\ntools = ["x"]\nthen = "allow"\n'
    found = backtest(POLICY + rules)
    assert found["calls"] == len(methods)


def test_the_filters_and_the_file(path, backtest, tmp_path):
    record(path, make_call("a", principal=ALICE), make_call("b", principal=BOB))
    assert backtest("", "--principal", "alice*")["calls"] == 1
    assert backtest("", "--tool", "b", "--since", "1h")["calls"] == 1
    moved = tmp_path / "moved.jsonl"
    path.rename(moved)
    assert backtest("", "--audit", str(moved))["calls"] == 2


def run(tmp_path, toml, *options):
    config = tmp_path / "new.toml"
    config.write_text(FILE.replace("{upstream}", "") + toml)
    config.chmod(0o600)
    return CliRunner().invoke(app, ["--config", str(config), *options])


def test_what_people_read(path, tmp_path):
    record(path, make_call("delete", principal=ALICE))
    shown = run(tmp_path, POLICY + '[[mcp.proxy.plugins.rules]]\nname = "closed"\nthen = "deny"\n')
    assert shown.exit_code == 1
    assert "refuse (security_policy: closed)" in shown.stdout
    assert "1 of 1 calls would be decided differently" in shown.stdout
    assert "rules that read these claims may decide otherwise" in shown.stderr


def test_wrong_files(path, tmp_path):
    assert "there is no such record of calls" in str(run(tmp_path, "").exception)
    record(path, make_call())
    assert "unknown setting" in str(run(tmp_path, POLICY + "rule = 1\n").exception)


def test_a_damaged_record_is_judged_as_far_as_it_goes(path, backtest):
    record(path, make_call(), make_call())
    entry = json.loads(path.read_text().splitlines()[1])
    with path.open("a") as file:
        for change in ({"principal": None}, {"time": "soon"}, {"served": 7}, {"decisions": None}, {"arguments": 5}):
            file.write(json.dumps({**entry, **change}) + "\n")
        file.write("no entry\n{}\n[]\n")
    found = backtest("")
    assert found["calls"] >= 2
    assert sum(found["skipped"].values()) + found["calls"] == 7
