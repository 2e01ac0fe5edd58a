"""Problems between the profiles of a file, each with its line."""

from pathlib import Path

import pytest

from gateway_core.config import Config, loads
from gateway_core.config.secrets import secrets_of
from gateway_core.errors import ConfigError

HEAD = "[mcp.proxy]\nenable = true\n"


def load(text: str, **env: str) -> Config:
    return loads(HEAD + text, Path("x.toml"), env)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    return list(caught.value.problems)


def profile(name: str, *lines: str) -> str:
    return "\n".join(["[[mcp.proxy.profiles]]", f'name = "{name}"', *lines, ""])


def override(*lines: str) -> str:
    return "\n".join(["[[mcp.proxy.profiles.overrides]]", *lines, ""])


def test_names_of_profiles_are_unique() -> None:
    (found,) = problems(profile("a") + profile("a"))
    assert found.startswith("x.toml:6: mcp.proxy.profiles[1].name: ")
    assert "is taken on line 4" in found


def test_two_tools_cannot_get_one_name_and_one_tool_has_one_override() -> None:
    same_name = override('tool = "a"', 'name = "n"') + override('tool = "b"', 'name = "n"')
    (found,) = problems(profile("p") + same_name)
    assert found.startswith("x.toml:10: mcp.proxy.profiles[0].overrides[1].name: ")
    assert "is taken on line 7" in found
    (found,) = problems(profile("p") + override('tool = "a"') + override('tool = "a"'))
    assert "overrides[1].tool: " in found
    assert "put all changes into one table" in found
    load(profile("p") + override('tool = "a"', 'name = "n"') + profile("q") + override('tool = "a"', 'name = "n"'))


def test_an_argument_is_fixed_or_has_a_default() -> None:
    (found,) = problems(profile("p") + override('tool = "a"', "fixed = { x = 1 }", "defaults = { x = 2, y = 3 }"))
    assert "x.toml:8: mcp.proxy.profiles[0].overrides[0].defaults.x: " in found
    assert "is fixed as well; remove one" in found


def test_one_profile_is_the_default() -> None:
    (found,) = problems(profile("a", "default = true") + profile("b", "default = true"))
    assert found.startswith("x.toml:8: mcp.proxy.profiles[1].default: ")
    assert 'is true for profile "a" as well' in found


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-a", "ä", "x" * 65])
def test_a_name_fits_into_an_address(name: str) -> None:
    (found,) = problems(profile(name))
    assert "must be 1 to 64 letters" in found


@pytest.mark.parametrize("value", ["inf", "1979-05-27", "[1, nan]", "{ a = 07:32:00 }"])
def test_arguments_are_values_of_json(value: str) -> None:
    (found,) = problems(profile("p") + override('tool = "a"', f"fixed = {{ x = {value} }}"))
    assert "JSON has nothing else" in found


@pytest.mark.parametrize("globs", ['["!"]', '["a", ""]', f'["{"x" * 1025}"]'])
def test_globs_that_cannot_be_used_are_reported(globs: str) -> None:
    assert problems(profile("p", f"tools = {globs}"))[0].startswith("x.toml:5: mcp.proxy.profiles[0].tools")


def test_values_of_arguments_come_from_the_environment_and_secrets_are_known() -> None:
    text = profile("p") + override(
        'tool = "a"', 'fixed = { token = "${T}", project = "SUPPORT", n = 1, deep = { key = "${K}" } }'
    )
    config = load(text, T="tok-5f2c7a91d3", K="k-99aa31bb72cd")
    assert config.proxy.profiles[0].overrides[0].fixed["token"] == "tok-5f2c7a91d3"
    hidden = {secret.value for secret in secrets_of(config.proxy)}
    assert {"tok-5f2c7a91d3", "k-99aa31bb72cd"} <= hidden
    assert "SUPPORT" not in hidden
    assert "tok-5f2c7a91d3" not in repr(config)
