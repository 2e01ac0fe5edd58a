"""What `check` says about profiles."""

import json
import sys

from gateway_core.config import DEFAULT_PLUGINS

PROFILES = f"""
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "demo"
transport = "stdio"
command = {json.dumps(sys.executable)}
args = ["-m", "gateway_core.demo.stdio_server"]

[[mcp.proxy.profiles]]
name = "desk"
tools = ["add", "subtract"]

[[mcp.proxy.profiles.overrides]]
tool = "add"
name = "sum"

[[mcp.proxy.profiles.overrides]]
tool = "multiply"

[[mcp.proxy.plugins]]
name = "security_policy"

[[mcp.proxy.plugins.rules]]
profiles = ["desk", "disk"]
then = "allow"
""" + "".join(f'\n[[mcp.proxy.plugins]]\nname = "{name}"\n' for name in DEFAULT_PLUGINS)


def line(text, word):
    return next(number for number, one in enumerate(text.splitlines(), 1) if word in one)


def test_unknown_profiles_and_keys_without_effect_have_their_lines(project, rad):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text(PROFILES)
    unknown = (
        f"{config}:{line(PROFILES, 'disk')}: mcp.proxy.plugins[0] (security_policy): rules[0].profiles[1]: "
        'no profile of this file has the name "disk"; did you mean "desk"?'
    )
    assert json.loads(rad("check", "--json").stdout)["notes"] == [unknown]
    assert json.loads(rad("check", "--connect", "--json").stdout)["notes"] == [
        f"{config}:{line(PROFILES, 'subtract')}: profile desk: tools: 'subtract' matches nothing",
        f"{config}:{line(PROFILES, 'multiply')}: profile desk: the override of 'multiply' has no effect: "
        "there is no such tool",
        unknown,
    ]


def test_names_of_profiles_are_only_claims_in_a_file_without_profiles(project, rad):
    config = project / ".radium" / "mcp-proxy.toml"
    begin, end = PROFILES.index("[[mcp.proxy.profiles]]"), PROFILES.index("[[mcp.proxy.plugins]]")
    config.write_text(PROFILES[:begin] + PROFILES[end:])
    assert json.loads(rad("check", "--json").stdout)["notes"] == []
