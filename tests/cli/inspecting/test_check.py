"""The output of `rad mcp proxy check`, as text and as JSON."""

import json
import sys


def test_each_problem_is_an_object_with_file_line_key_and_message(project, rad):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text("[mcp.proxy]\nenable = true\nhots = 1\nport = 0\n")
    found = rad("check", "--json")
    assert found.returncode == 2
    problems = json.loads(found.stdout)["problems"]
    assert [(one["file"], one["line"], one["key"]) for one in problems] == [
        (str(config), 3, "mcp.proxy.hots"),
        (str(config), 4, "mcp.proxy.port"),
    ]
    assert problems[1]["message"].startswith("must be from 1 to 65535")
    for one in problems:
        assert f"{one['file']}:{one['line']}: {one['key']}: {one['message']}" in found.stderr


def test_a_setting_of_a_plugin_has_its_line_and_key(project, rad):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text(
        '[mcp.proxy]\nenable = true\n[[mcp.proxy.plugins]]\nname = "security_ratelimit"\nrate_limit_per_minute = "x"\n'
    )
    found = rad("check", "--json")
    (problem,) = json.loads(found.stdout)["problems"]
    assert (problem["line"], problem["key"]) == (5, "mcp.proxy.plugins[0].rate_limit_per_minute")


def test_a_problem_of_the_whole_file_has_no_key(project, rad):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text("[mcp.proxy\n")
    (problem,) = json.loads(rad("check", "--json").stdout)["problems"]
    assert (problem["file"], problem["line"], problem["key"]) == (str(config), 1, None)
    assert "is not valid TOML" in problem["message"]
    config.write_text("")
    config.chmod(0o666)
    (problem,) = json.loads(rad("check", "--json").stdout)["problems"]
    assert (problem["line"], problem["key"]) == (None, None)
    assert problem["message"].startswith("others may write")


def test_one_upstream_is_not_many(with_server, rad):
    assert "1 upstream, 4 plugins" in rad("check").stdout


def test_hints_repeat_the_file_that_was_given(project, rad, tmp_path):
    config = project / "my own.toml"
    config.write_text("[mcp.proxy]\n")
    config.chmod(0o600)
    assert "`rad mcp proxy start --config 'my own.toml'` will refuse" in rad("check", "--config", "my own.toml").stdout
    assert "to start it: rad mcp proxy start --config 'my own.toml'" in rad("status", "--config", "my own.toml").stderr


def test_problems_of_plugins_are_listed_beside_those_of_keys(project, rad):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text(
        "[mcp.proxy]\nenable = true\nhots = 1\n"
        '[[mcp.proxy.plugins]]\nname = "security_ratelimitt"\n'
        '[[mcp.proxy.plugins]]\nname = "security_redact"\nenabled = 7\n'
        '[[mcp.proxy.plugins]]\nname = "security_ratelimit"\nrate_limit_per_minute = "${NOT_SET_ANYWHERE}"\n'
    )
    found = rad("check", "--json")
    assert found.returncode == 2
    assert [(one["line"], one["key"]) for one in json.loads(found.stdout)["problems"]] == [
        (3, "mcp.proxy.hots"),
        (8, "mcp.proxy.plugins[1].enabled"),
        (11, "mcp.proxy.plugins[2].rate_limit_per_minute"),
        (4, "mcp.proxy.plugins[0]"),
    ]
    assert "did you mean security_ratelimit?" in found.stderr


def test_plugins_note_what_is_probably_a_mistake_in_their_settings(project, rad):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text(
        "[mcp.proxy]\nenable = true\n"
        '[[mcp.proxy.upstreams]]\nname = "demo"\ntransport = "stdio"\n'
        f'command = {sys.executable!r}\nargs = ["-m", "gateway_core.demo.stdio_server"]\n'
        '[[mcp.proxy.plugins]]\nname = "security_policy"\n'
        '[[mcp.proxy.plugins.rules]]\nupstreams = ["dmo"]\nthen = "deny"\n'
        '[[mcp.proxy.plugins.rules]]\ntools = ["lokup"]\nthen = "allow"\n'
        '[[mcp.proxy.plugins.rules]]\nthen = "allow"\n'
        '[[mcp.proxy.plugins.rules]]\ntools = ["add"]\nthen = "deny"\n'
    )
    found = rad("check", "--json")
    _, upstream, never = json.loads(found.stdout)["notes"]
    assert upstream == (
        f"{config}:11: mcp.proxy.plugins[0] (security_policy): rules[0].upstreams[0]: "
        '"dmo" matches no upstream of this file; did you mean "demo"?'
    )
    assert never.startswith(f"{config}:18: mcp.proxy.plugins[0] (security_policy): rules[3]: never applies")
    text = rad("check", "--connect").stdout
    assert f"note: {upstream}\n" in text
    assert f'note: {config}:14: mcp.proxy.plugins[0] (security_policy): rules[1].tools[0]: "lokup" matches no' in text


def test_a_group_in_which_no_agent_is_is_noted(project, rad):
    config = project / ".radium" / "mcp-proxy.toml"
    text = (
        "[mcp.proxy]\nenable = true\n"
        '[[mcp.proxy.plugins]]\nname = "security_policy"\n'
        '[[mcp.proxy.plugins.rules]]\ngroups = ["dev"]\nthen = "allow"\n'
    )
    config.write_text(text)
    _, note = json.loads(rad("check", "--json").stdout)["notes"]
    assert note.startswith(f"{config}:6: mcp.proxy.plugins[0] (security_policy): rules[0].groups[0]: no agent is in")
    tokens = '[[mcp.proxy.plugins]]\nname = "auth_jwt"\naudience = "https://gateway.example.com/mcp"\n'
    config.write_text(text + tokens + '[[mcp.proxy.plugins.issuers]]\nissuer = "https://id.example"\n')
    found = rad("check", "--json")
    assert [note for note in json.loads(found.stdout)["notes"] if "group" in note] == [], found.stdout


def test_a_plugin_can_be_appended_to_the_file_that_init_writes(project, rad):
    assert rad("init", "--force").returncode == 0
    config = project / ".radium" / "mcp-proxy.toml"
    assert json.loads(rad("check", "--json").stdout)["notes"] == []
    config.write_text(config.read_text() + '\n[[mcp.proxy.plugins]]\nname = "observe_metrics"\n')
    found = rad("check")
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [
        f"ok: {config}: 0 upstreams, 1 plugin",
        "note: the list of plugins replaces the default set and leaves out routing_priority, conflict_autoprefix, "
        "security_ratelimit, security_redact; add an entry for each, "
        "with enabled = false for those that you do without",
    ]
