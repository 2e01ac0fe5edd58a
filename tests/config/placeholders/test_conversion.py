"""Numbers and booleans from `${…}`."""

from pathlib import Path
from typing import Any

import pytest

from gateway_core.config import Config, loads
from gateway_core.errors import ConfigError

FILE = Path("/nowhere/mcp-proxy.toml")
LEAK = "leaked-value"


def loaded(proxy: str, **env: str) -> Config:
    return loads(f"[mcp.proxy]\n{proxy}\n", FILE, env)


def refused(proxy: str, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(proxy, **env)
    return caught.value.problems


@pytest.mark.parametrize(
    ("line", "value", "key", "result"),
    [
        ('port = "${X}"', "4000", "port", 4000),
        ('port = "${X}"', " 4000\n", "port", 4000),
        ('port = "${UNSET:-4001}"', "", "port", 4001),
        ('timeout = "${X}"', "2.5", "timeout", 2.5),
        ('timeout = "${X}"', "20", "timeout", 20.0),
        ('enable = "${X}"', "true", "enable", True),
        ('enable = "${X}"', "Off", "enable", False),
        ('enable = "${X}"', "0", "enable", False),
        ('host = "${X}"', "127.0.0.1", "host", "127.0.0.1"),
        ('separator = "${X}"', "1", "separator", "1"),
    ],
)
def test_a_value_takes_the_type_of_its_key(line: str, value: str, key: str, result: Any) -> None:
    found = getattr(loaded(line, X=value).proxy, key)
    assert (found, type(found)) == (result, type(result))


def test_tables_in_lists_and_below_take_part() -> None:
    proxy = loaded(
        '[mcp.proxy.limits]\nin_flight = "${N}"\n[[mcp.proxy.upstreams]]\nname = "a"\ntransport = "http"\n'
        'url = "http://localhost:1/mcp"\npriority = "${N}"\ntrust_annotations = "${B}"\ntimeout = "${N}"\n',
        N="7",
        B="yes",
    ).proxy
    upstream = proxy.upstreams[0]
    assert (proxy.limits.in_flight, upstream.priority, upstream.trust_annotations, upstream.timeout) == (
        7,
        7,
        True,
        7.0,
    )


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('port = "${X}"', "a whole number"),
        ('timeout = "${X}"', "a number"),
        ('enable = "${X}"', "true or false"),
        ('port = "${UNSET:-leaked-value}"', "a whole number"),
    ],
)
def test_another_text_is_an_error_that_names_key_variable_and_line(line: str, wanted: str) -> None:
    (problem,) = refused(line, X=LEAK)
    key, variable = line.partition(" = ")[0], "UNSET" if "UNSET" in line else "X"
    assert problem.startswith(f"{FILE}:2: mcp.proxy.{key}: ")
    assert f"must be {wanted}, but the value of environment variable {variable} is something else" in problem
    assert LEAK not in problem


@pytest.mark.parametrize("text", ["1.5", "1e3", "0x10", "1_000", "", "9" * 19, "\u0661", "--1", "inf", "nan"])
def test_a_whole_number_has_digits_only(text: str) -> None:
    (problem,) = refused('port = "${X}"', X=text)
    assert "must be a whole number" in problem


def test_a_number_out_of_bounds_is_not_shown() -> None:
    (problem,) = refused('port = "${X}"', X="77777")
    assert "must be from 1 to 65535" in problem
    assert "environment variable X" in problem
    assert "77777" not in problem


@pytest.mark.parametrize("value", ['"4${X}"', '"${X}${X}"', '"4000"', '" ${X}"'])
def test_a_text_with_more_than_the_placeholder_stays_a_text(value: str) -> None:
    (problem,) = refused(f"port = {value}", X="1")
    assert "must be a whole number, but is text" in problem or 'but is the text "4000"' in problem


def test_rules_between_keys_see_the_numbers() -> None:
    (problem,) = refused('timeout = "${A}"\nmax_timeout = "${B}"', A="31.25", B="17.5")
    assert "must not be more than max_timeout" in problem
    assert "31.25" not in problem
    assert "17.5" not in problem


def test_a_separator_from_the_environment_is_not_shown() -> None:
    upstream = '[[mcp.proxy.upstreams]]\nname = "a..b"\ntransport = "http"\nurl = "http://localhost:1/mcp"\n'
    (problem,) = refused(f'separator = "${{X}}"\n{upstream}', X="..")
    assert "must not contain the separator, which" in problem
    (problem,) = refused(f'separator = ".."\n{upstream}', X="..")
    assert 'must not contain the separator "..", which' in problem


def test_settings_of_plugins_keep_where_they_came_from() -> None:
    (entry,) = loaded(
        '[[mcp.proxy.plugins]]\nname = "p"\nlimit = "${X}"\ninner = { list = ["${Y:-1}"] }', X="5"
    ).proxy.plugins
    assert entry.settings == {"limit": "5", "inner": {"list": ["1"]}}
    assert entry.sources == {"limit": "environment variable X", "inner.list[0]": "environment variable Y"}
