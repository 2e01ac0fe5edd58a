"""The line scanner: it must name the right line for every key of every file that tomllib accepts."""

import tomllib
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.config.source import Path, layout_of, line_of, scan, show

EVERYTHING = '''\
# a comment with [a.table] and key = 1
top = 1
"quoted key".'other one' = 2   # dotted
a . b . "c\\u0041" = 3

[table]                     # comment ]
text = "with \\" and # and ]"
literal = 'C:\\dir\\'
long = """
[not.a.table]
fake = 1
\\""" still ""inside"""""
after_long = 1
raw = \'\'\'
[[nor.this]] '' "
\'\'\'\'\'
after_raw = 2026-11-22 10:00:00   # a date with a space
list = [ 1, # one ]
  "two, ]",
  [3, [4,
    5]],
  { x = 1, y = [ "}" ] },
]
inline = { p = { q = 1 }, "r.s" = [], t.u = 2 }
empty_list = []
empty_table = {}

[ table . "sub.table" ]
deep = true

[[items]]
name = "first"
[items.auth]
secret = 1
[[items.parts]]
n = 1
[[items.parts]]
n = 2

[[items]]
name = "second"
[[items.parts]]
n = 3
[items.parts.more]
last = inf'''

LINES: dict[Path, int] = {
    ("top",): 2,
    ("quoted key",): 3,
    ("quoted key", "other one"): 3,
    ("a", "b", "cA"): 4,
    ("table",): 6,
    ("table", "text"): 7,
    ("table", "literal"): 8,
    ("table", "long"): 9,
    ("table", "after_long"): 13,
    ("table", "raw"): 14,
    ("table", "after_raw"): 17,
    ("table", "list"): 18,
    ("table", "list", 0): 18,
    ("table", "list", 1): 19,
    ("table", "list", 2): 20,
    ("table", "list", 2, 1): 20,
    ("table", "list", 2, 1, 1): 21,
    ("table", "list", 3): 22,
    ("table", "list", 3, "x"): 22,
    ("table", "list", 3, "y", 0): 22,
    ("table", "inline", "p", "q"): 24,
    ("table", "inline", "r.s"): 24,
    ("table", "inline", "t", "u"): 24,
    ("table", "empty_list"): 25,
    ("table", "empty_table"): 26,
    ("table", "sub.table"): 28,
    ("table", "sub.table", "deep"): 29,
    ("items",): 31,
    ("items", 0): 31,
    ("items", 0, "name"): 32,
    ("items", 0, "auth"): 33,
    ("items", 0, "auth", "secret"): 34,
    ("items", 0, "parts", 0): 35,
    ("items", 0, "parts", 1): 37,
    ("items", 0, "parts", 1, "n"): 38,
    ("items", 1): 40,
    ("items", 1, "name"): 41,
    ("items", 1, "parts", 0, "n"): 43,
    ("items", 1, "parts", 0, "more", "last"): 45,
}


def paths(data: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        yield from paths(value, (*path, key))


@pytest.mark.parametrize(
    ("path", "line"), LINES.items(), ids=lambda value: show(value) if isinstance(value, tuple) else None
)
def test_every_form_of_toml_is_found_on_its_line(path: Path, line: int) -> None:
    assert scan(EVERYTHING)[path] == line


def test_the_table_of_forms_is_valid_toml_and_nothing_in_it_is_missed() -> None:
    assert set(paths(tomllib.loads(EVERYTHING))) == set(scan(EVERYTHING))


def test_windows_line_ends_change_nothing() -> None:
    assert scan(EVERYTHING.replace("\n", "\r\n")) == scan(EVERYTHING)


def test_a_table_is_where_its_own_header_is_even_below_its_parts() -> None:
    assert scan("[a.b]\n[a]\n") == {("a",): 2, ("a", "b"): 1}
    assert scan("[a.b]\n") == {("a",): 1, ("a", "b"): 1}


# Leaves have no "k", so that the mark of a key is found where the key stands and nowhere else.
leaves = (
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.dates()
    | st.text(st.sampled_from("ab \"'\\#[]{}=,.\n\té\u2028"))
)
key_tails = st.text(st.sampled_from("ab \"'\\#[]{}=,.\té\u2028"), max_size=4)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    marks = count()

    def value(depth: int) -> Any:
        kind = draw(st.sampled_from(["leaf", "leaf", "list", "table", "tables"])) if depth < 4 else "leaf"
        if kind == "leaf":
            return draw(leaves)
        if kind == "table":
            return table(depth + 1)
        size = draw(st.integers(0, 3))
        return [table(depth + 1) if kind == "tables" else value(depth + 1) for _ in range(size)]

    def table(depth: int) -> dict[str, Any]:
        return {f"k{next(marks)}k{draw(key_tails)}": value(depth) for _ in range(draw(st.integers(0, 4)))}

    return table(0)


@given(documents(), st.booleans(), st.integers(0, 6))
def test_every_key_stands_on_the_line_that_the_scanner_names(
    data: dict[str, Any], multiline: bool, indent: int
) -> None:
    text = "# [comment]\n\n" + tomli_w.dumps(data, multiline_strings=multiline, indent=indent)
    lines = scan(text)
    rows = text.split("\n")
    assert set(lines) == set(paths(tomllib.loads(text)))
    for path, line in lines.items():
        keys = [part for part in path if isinstance(part, str)]
        mark = keys[-1].split("k")[1]
        if isinstance(path[-1], str):
            assert f"k{mark}k" in rows[line - 1]
        assert line >= (line_of(lines, path[:-1]) or 1)


def value_at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


@given(documents(), st.booleans(), st.booleans())
def test_every_string_header_and_comment_is_found_where_it_stands(
    data: dict[str, Any], multiline: bool, windows: bool
) -> None:
    text = "# first # one\n\n" + tomli_w.dumps(data, multiline_strings=multiline) + "# last"
    if windows:
        text = text.replace("\n", "\r\n")
    raw, layout = tomllib.loads(text), layout_of(text)
    strings = {path for path in paths(raw) if isinstance(value_at(raw, path), str)}
    assert set(layout.strings) == strings
    for path, (start, end) in layout.strings.items():
        assert tomllib.loads(f"v = {text[start:end]}")["v"] == value_at(raw, path)
    assert [text[start:end] for start, end in layout.comments] == ["# first # one", "# last"]
    for path, start in layout.headers.items():
        assert text[start] == "["
        assert isinstance(value_at(raw, path), dict)


def test_a_path_without_a_line_gets_that_of_the_table_around_it() -> None:
    lines = scan("[a]\nx = 1\n[[a.b]]\ny = 1\n")
    assert line_of(lines, ("a", "b", 0, "missing", "deeper")) == 3
    assert line_of(lines, ("a", "missing")) == 1
    assert line_of(lines, ("missing",)) is None


def test_paths_are_shown_as_in_toml() -> None:
    assert show(("mcp", "proxy", "upstreams", 1, "env", 'odd "key"')) == 'mcp.proxy.upstreams[1].env."odd \\"key\\""'
