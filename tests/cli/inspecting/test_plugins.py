"""`rad mcp proxy plugins`: the installed plugins, even if the file is wrong."""

import json


def test_settings_are_listed_with_type_default_and_description(rad):
    rows = {row["plugin"]: row for row in json.loads(rad("plugins", "--json").stdout)["plugins"]}
    settings = {one["name"]: one for one in rows["security_ratelimit"]["settings"]}
    limit = settings["rate_limit_per_minute"]
    assert (limit["type"], limit["default"], limit["required"]) == ("integer", 60, False)
    assert limit["description"]
    assert rows["routing_priority"]["settings"] == []
    assert rows["conflict_reject"]["hooks"] == ["resolve_conflict"]
    shown = rad("plugins").stdout
    assert "setting" in shown
    assert "rate_limit_per_minute" in shown
    assert "routing_priority: no settings" in shown


def test_a_wrong_file_is_reported_after_the_list(project, rad):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text("[mcp.proxy]\nenable = true\nhots = 1\n")
    found = rad("plugins")
    assert found.returncode == 2
    assert "routing_roundrobin" in found.stdout
    assert "rate_limit_per_minute" in found.stdout
    assert "1 problem in the configuration" in found.stderr
    assert "mcp-proxy.toml:3: mcp.proxy.hots" in found.stderr


def test_a_plugin_that_is_missing_is_reported_after_the_list(project, rad):
    with (project / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write('[[mcp.proxy.plugins]]\nname = "no_such_plugin"\n')
    found = rad("plugins", "--json")
    assert found.returncode == 2
    answer = json.loads(found.stdout)
    assert {"security_redact", "routing_roundrobin"} <= {row["plugin"] for row in answer["plugins"]}
    assert answer["problems"][0]["key"] == "mcp.proxy.plugins[0]"
    assert "no_such_plugin" in found.stderr


def test_the_list_needs_no_variables(project, rad):
    config = project / ".radium" / "mcp-proxy.toml"
    upstream = '[[mcp.proxy.upstreams]]\nname = "a"\ntransport = "http"\nurl = "${NOT_SET_ANYWHERE}"\n'
    config.write_text(f"[mcp.proxy]\nenable = true\n{upstream}")
    found = rad("plugins", "--json")
    assert (found.returncode, found.stderr) == (0, "")
    enabled = [row["plugin"] for row in json.loads(found.stdout)["plugins"] if row["order"]]
    assert enabled == ["routing_priority", "conflict_autoprefix", "security_ratelimit", "security_redact"]
    plugin = (
        '[[mcp.proxy.plugins]]\nname = "security_redact"\non_error = "ignore"\npatterns = ["${NOT_SET_ANYWHERE}"]\n'
    )
    config.write_text(f"[mcp.proxy]\nenable = true\n{upstream}{plugin}")
    first = json.loads(rad("plugins", "--json").stdout)["plugins"][0]
    assert (first["plugin"], first["order"], first["on_error"]) == ("security_redact", 1, "ignore")
    config.write_text(f"[mcp.proxy]\nenable = true\nhots = 1\n{upstream}{plugin}")
    wrong = rad("plugins", "--json")
    assert wrong.returncode == 2
    assert [one["key"] for one in json.loads(wrong.stdout)["problems"]] == ["mcp.proxy.hots"]
