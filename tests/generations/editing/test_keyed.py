"""Changes of single keys: what they write, and that everything else stays as it is, byte by byte."""

from __future__ import annotations

import difflib
import tomllib
from typing import Any

import pytest

from gateway_core.errors import ConfigError
from gateway_core.generations.editing.keyed import MAX_CHANGES, KeyChange, changed

TEXT = """\
# head
[mcp.proxy]
enable = true  # on
port = 3000   # the port
state_keys = [
  "a", # first
  "b",
]

# the first server
[[mcp.proxy.upstreams]]
name = "one"
transport = "stdio"
command = "x"  # its program

[mcp.proxy.upstreams.env]
A = "1"

# the second server
[[mcp.proxy.upstreams]]
name = "two.b"
transport = "http"
url = "http://x"

# the log
[mcp.proxy.log]
level = "INFO"  # level

# last
"""


def edited(text: str, *changes: tuple[str, Any]) -> tuple[list[str], list[str]]:
    """The lines that a change removes, and those that it adds."""
    after = changed(text, [KeyChange(*change) for change in changes], "f.toml")
    tomllib.loads(after)
    lines = list(difflib.ndiff(text.splitlines(keepends=True), after.splitlines(keepends=True)))
    removed, added = ([line[2:].rstrip("\n") for line in lines if line[0] == sign] for sign in "-+")
    return removed, added


@pytest.mark.parametrize(
    ("changes", "removed", "added"),
    [
        ([("upstreams.one.enabled", False)], [], ["enabled = false"]),
        ([('upstreams."two.b".enabled', False)], [], ["enabled = false"]),
        ([("port", 3001)], ["port = 3000   # the port"], ["port = 3001   # the port"]),
        ([("timeout", 3.5)], [], ["timeout = 3.5"]),
        ([("log.level", None)], ['level = "INFO"  # level'], []),
        ([("log", None)], ["[mcp.proxy.log]", 'level = "INFO"  # level'], []),
        ([("limits.in_flight", 5)], [], ["[mcp.proxy.limits]", "in_flight = 5", ""]),
        ([("upstreams.one.env.B", "2")], [], ['B = "2"']),
        ([("upstreams.one.env", {"B": "2"})], ['A = "1"'], ['B = "2"']),
        (
            [("upstreams.one", None)],
            [
                *("[[mcp.proxy.upstreams]]", 'name = "one"', 'transport = "stdio"', 'command = "x"  # its program', ""),
                *("[mcp.proxy.upstreams.env]", 'A = "1"'),
            ],
            [],
        ),
        (
            [("upstreams.new", {"transport": "http", "url": "http://y", "headers": {"X": "y"}})],
            [],
            [
                *("[[mcp.proxy.upstreams]]", 'name = "new"', 'transport = "http"', 'url = "http://y"'),
                *('headers = { X = "y" }', ""),
            ],
        ),
        (
            [("plugins.security_redact", {"patterns": ["a"]})],
            [],
            ["[[mcp.proxy.plugins]]", 'name = "security_redact"', 'patterns = ["a"]', ""],
        ),
        ([("upstreams.one.auth.client_id", "x")], [], ["[mcp.proxy.upstreams.auth]", 'client_id = "x"', ""]),
        ([("timeout", None)], [], []),
    ],
)
def test_a_change_touches_only_its_own_lines(
    changes: list[tuple[str, Any]], removed: list[str], added: list[str]
) -> None:
    assert edited(TEXT, *changes) == (removed, added)
    windows = TEXT.replace("\n", "\r\n")
    after = changed(windows, [KeyChange(*change) for change in changes], "f.toml")
    assert after.count("\n") == after.count("\r\n")


def test_a_new_key_stands_above_the_comment_of_what_follows() -> None:
    after = changed(TEXT, [KeyChange("timeout", 2.0)], "f.toml")
    assert ']\ntimeout = 2.0\n\n# the first server\n[[mcp.proxy.upstreams]]\nname = "one"' in after


def test_comments_stay_when_all_entries_of_a_list_go() -> None:
    after = changed(TEXT, [KeyChange("upstreams", None)], "f.toml")
    assert [line for line in after.splitlines() if line.startswith("#")] == [
        line for line in TEXT.splitlines() if line.startswith("#")
    ]
    assert "upstreams" not in tomllib.loads(after)["mcp"]["proxy"]


@pytest.mark.parametrize(
    "text",
    [
        '[mcp]\nproxy = {enable = true, upstreams=[{name="one", transport="http"}]} # inline\n',
        'mcp.proxy.enable = true # dotted\n[[mcp.proxy.upstreams]]\nname="one"\n',
        '[mcp.proxy]\nenable = true\n[[mcp.proxy.upstreams]]\nname = "one" # last line',
    ],
)
def test_every_layout_of_a_list_takes_changes_and_entries(text: str) -> None:
    changes = [KeyChange("upstreams.one.enabled", False), KeyChange("upstreams.two", {"transport": "http"})]
    after = changed(text, changes, "f.toml")
    upstreams = tomllib.loads(after)["mcp"]["proxy"]["upstreams"]
    assert upstreams[0]["enabled"] is False
    assert upstreams[1] == {"name": "two", "transport": "http"}
    assert after.count("#") == text.count("#")


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("upstreams.zz.enabled", True, "no entry with the name 'zz'"),
        ("upstreams.zz", None, "no entry with the name 'zz'"),
        ("port.x", 1, "no table"),
        ("a = 1\nb", 1, "is no key"),
        ("", 1, "is no key"),
        ("x" * 1000, 1, "is no key"),
        ("upstreams.one.timeot", None, 'is not a known key; did you mean "timeout"?'),
        ("log.levle", None, 'is not a known key; did you mean "level"?'),
        ("lgo.level", None, 'leads into lgo, which is not a known key; did you mean "log"?'),
        ("upstreams.one.args", [1, None], "null"),
        ("upstreams.one", "text", "must be a table"),
        ("upstreams.one", {"name": "other"}, "must be a table"),
        ("profiles.p.overrides.t.name", "q", "no entry with the name 'p'"),
    ],
)
def test_a_key_that_leads_nowhere_is_named(key: str, value: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=r"f\.toml: mcp\.proxy\..*") as found:
        changed(TEXT, [KeyChange(key, value)], "f.toml")
    assert what in str(found.value)


def test_the_number_of_changes_is_bounded() -> None:
    with pytest.raises(ConfigError, match="at most"):
        changed(TEXT, [KeyChange("port", 1)] * (MAX_CHANGES + 1), "f.toml")
