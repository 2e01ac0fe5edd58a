"""`rad mcp proxy keys`: what it prints where, what it writes, and what it refuses."""

import json
import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta

import pytest
from gateway_auth_apikey import key_file
from gateway_auth_apikey.commands import app
from gateway_auth_apikey.keys import Key, matches
from gateway_auth_apikey.plugin import ApiKeys
from gateway_auth_apikey.records import new
from typer.testing import CliRunner

from gateway_core.testing import configured, make_credentials, run_hook

ENABLED = '[mcp.proxy]\nenable = true\n\n[[mcp.proxy.plugins]]\nname = "auth_apikey"\n'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "mcp-proxy.toml"
    path.write_text(ENABLED)
    path.chmod(0o600)
    return path


@pytest.fixture
def keys(config):
    """`keys("add", …)` runs a command in this process."""
    return lambda *arguments: CliRunner().invoke(app, [*arguments, "--config", str(config)])


def records(config):
    return key_file.read(config.with_name("mcp-proxy.keys")).records


def test_the_key_is_all_of_stdout_and_stands_nowhere_else(keys, config):
    result = keys("add", "alice", "--group", "staff", "--group", "admins", "--expires", "90d", "--profile", "small")
    assert result.exit_code == 0
    key = Key.parse(result.stdout.removesuffix("\n"))
    (record,) = records(config)
    assert matches(key.secret, record.hash)
    assert (record.name, record.groups, record.profile) == ("alice", ("staff", "admins"), "small")
    assert timedelta(89) < record.expires - datetime.now(UTC) < timedelta(91)
    assert key.secret not in result.stderr + config.with_name("mcp-proxy.keys").read_text()
    assert "Authorization: Bearer KEY" in result.stderr
    assert "X-Api-Key: KEY" in result.stderr
    assert "warning" not in result.stderr


PROFILES = '\n[[mcp.proxy.profiles]]\nname = "small"\n\n[[mcp.proxy.profiles]]\nname = "large"\n'


def test_a_key_for_a_profile_that_the_file_does_not_have_is_refused(keys, config):
    config.write_text(ENABLED + PROFILES)
    result = keys("add", "alice", "--profile", "smal")
    assert result.exit_code == 2
    assert "has no profile 'smal'; its profiles are small, large" in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert not config.with_name("mcp-proxy.keys").exists()
    assert keys("add", "alice", "--profile", "large").exit_code == 0


def test_a_new_key_is_accepted_by_the_plugin_and_a_revoked_one_is_not(keys, config):
    key = keys("add", "alice").stdout.strip()
    file = config.with_name("mcp-proxy.keys")
    found = run_hook(configured(ApiKeys, file=file).instance, "authenticate", make_credentials(f"Bearer {key}"))
    assert found.subject == "alice"
    assert "revoked: alice" in keys("revoke", "alice").stdout
    refused = run_hook(configured(ApiKeys, file=file).instance, "authenticate", make_credentials(f"Bearer {key}"))
    assert refused.message.startswith("an unknown or revoked key ")


def test_the_list_has_everything_but_hashes(keys, config):
    assert "no keys; to make one: rad mcp proxy keys add NAME" in keys("list").stdout
    first, second = (json.loads(keys("add", "alice", "--json").stdout) for _ in range(2))
    key_file.add(config.with_name("mcp-proxy.keys"), new("bob", expires=datetime(2020, 1, 1, tzinfo=UTC))[1])
    shown = keys("list").stdout
    assert first["id"] in shown
    assert "expired 2020-01-01T00:00:00Z" in shown
    listed = json.loads(keys("list", "--json").stdout)
    assert [one["name"] for one in listed["keys"]] == ["alice", "alice", "bob"]
    assert [one["expired"] for one in listed["keys"]] == [False, False, True]
    assert listed["keys"][1]["id"] == second["id"]
    assert "hash" not in json.dumps(listed)
    assert not any(record.hash in shown for record in records(config))


def test_a_second_key_of_a_name_says_how_to_revoke_the_first(keys, config):
    keys("add", "alice")
    (first,) = records(config)
    said = keys("add", "alice").stderr
    assert f"alice has another key; to revoke it: rad mcp proxy keys revoke {first.id} --config {config}" in said
    refused = keys("revoke", "alice")
    assert f"alice has 2 keys; name one of their ids ({first.id}, " in str(refused.exception)
    assert len(records(config)) == 2
    assert keys("revoke", first.id).exit_code == 0
    keys("add", "alice")
    assert len(json.loads(keys("revoke", "alice", "--all", "--json").stdout)["revoked"]) == 2
    assert records(config) == ()


def test_a_key_for_the_settings_is_printed_as_toml_that_works(keys, config):
    made = json.loads(keys("add", "alice", "--inline", "--group", "staff", "--json").stdout)
    assert not config.with_name("mcp-proxy.keys").exists()
    config.write_text(f"{ENABLED}\n{made['toml']}\n")
    (table,) = tomllib.loads(config.read_text())["mcp"]["proxy"]["plugins"]
    plugin = configured(ApiKeys, keys=table["keys"], file=config.with_name("none")).instance
    assert run_hook(plugin, "authenticate", make_credentials(f"Bearer {made['key']}")).groups == {"staff"}
    assert json.loads(keys("list", "--json").stdout)["keys"][0]["kept_in"] == "settings"
    refused = str(keys("revoke", "alice").exception)
    assert f"stands in the settings of auth_apikey in {config}; remove it there" in refused
    assert "apply the file: rad mcp proxy reload" in refused
    shown = keys("add", "bob", "--inline")
    assert "[[mcp.proxy.plugins.keys]]" in shown.stderr
    assert re.fullmatch(r"rad_\w+\n", shown.stdout)


def test_the_file_and_the_header_are_those_of_the_settings(keys, config):
    config.write_text(f'{ENABLED}file = "secret/keys"\nheader = "X-Radium"\n')
    (config.parent / "secret").mkdir()
    assert "X-Radium: KEY" in keys("add", "alice").stderr
    assert key_file.read(config.parent / "secret" / "keys").records[0].name == "alice"


def test_where_the_plugin_is_not_enabled_a_warning_has_the_lines_to_add(keys, config):
    config.write_text("[mcp.proxy]\nenable = true\n")
    said = keys("add", "alice").stderr
    lines = said[said.index("[[mcp.proxy.plugins]]") : said.index("If the gateway runs already: rad mcp proxy reload")]
    names = [one["name"] for one in tomllib.loads(lines)["mcp"]["proxy"]["plugins"]]
    assert "no key is needed yet" in said
    assert names[0] == "auth_apikey"
    assert "security_ratelimit" in names, "the default set, which a list replaces"
    assert json.loads(keys("add", "bob", "--json").stdout)["enabled"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "a\nb"], "name: must have 1 to 128 printable characters"),
        (["add", "alice", "--group", ""], "groups: must have"),
        (["add", "alice", "--expires", "soon"], "must be a time like 90d"),
        (["add", "alice", "--expires", "2020-01-01"], "is in the past"),
        (["add"], "Missing argument"),
    ],
)
def test_wrong_usage_is_refused_and_makes_no_key(keys, config, arguments, said):
    result = keys(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.stderr).split())
    assert records(config) == ()


def test_an_unknown_name_and_a_damaged_file_are_errors(keys, config):
    assert "no key has the name or id 'alice'" in str(keys("revoke", "alice").exception)
    file = config.with_name("mcp-proxy.keys")
    keys("add", "alice")
    file.write_text(f"{file.read_text()}x\n")
    for command in (["add", "bob"], ["list"], ["revoke", "alice"]):
        assert f"{file}:3: is not valid JSON" in str(keys(*command).exception)
    file.chmod(0o644)
    assert f"run: chmod 600 {file}" in str(keys("list").exception)


def test_the_commands_are_part_of_rad(config):
    def rad(*arguments):
        command = [sys.executable, "-m", "gateway_core.cli", "mcp", "proxy", "keys", *arguments]
        return subprocess.run(
            command, cwd=config.parent, env={**os.environ}, capture_output=True, text=True, timeout=50, check=False
        )

    made = rad("add", "alice", "--config", config.name)
    assert (made.returncode, Key.parse(made.stdout.strip()) is None) == (0, False)
    gone = rad("revoke", "bob", "--config", config.name)
    assert gone.returncode == 1
    assert gone.stderr.startswith("error: no key has the name or id 'bob'")
    assert rad("add", "bob", "--expires", "never", "--config", config.name).returncode == 2
    assert "Example: rad mcp proxy keys add alice" in rad("add", "--help").stdout
