"""`${NAME}` and `${file:PATH}`."""

import os
from pathlib import Path
from typing import Any

import pytest

from gateway_core.config.placeholders.interpolate import FILE_LIMIT, fill


def problem(value: str, folder: Path, env: dict[str, str] | None = None) -> str:
    filled = fill({"k": value}, env or {}, folder)
    assert [path for path, _ in filled.problems] == [("k",)]
    assert filled.data == {"k": value}
    return filled.problems[0][1]


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("x-${A}-${B_2}-y", "x-one-two-y"),
        ("$A {A} $ {A} }", "$A {A} $ {A} }"),
        ("$${A}", "${A}"),
        ("$${", "${"),
        ("$$${A}", "$${A}"),
        ("${EMPTY}", ""),
        ("${NESTED}", "${A}"),
        ("${A:-default}", "one"),
        ("${UNSET:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a:-b c}", "a:-b c"),
        ("${UNSET:-$A}", "$A"),
        ("http://${UNSET:-localhost}:${B_2}/", "http://localhost:two/"),
    ],
)
def test_variables_are_filled_in_once(value: str, result: str, tmp_path: Path) -> None:
    env = {"A": "one", "B_2": "two", "EMPTY": "", "NESTED": "${A}"}
    filled = fill({"k": value}, env, tmp_path)
    assert (filled.data, filled.problems) == ({"k": result}, [])


def test_strings_are_filled_in_wherever_they_stand_and_remembered(tmp_path: Path) -> None:
    data: dict[str, Any] = {"a": ["${X}", {"b": "${X}"}], "n": 1, "t": True, "plain": "p", "${X}": "key"}
    filled = fill(data, {"X": "secret"}, tmp_path)
    assert filled.data == {"a": ["secret", {"b": "secret"}], "n": 1, "t": True, "plain": "p", "${X}": "key"}
    assert filled.sources == dict.fromkeys([("a", 0), ("a", 1, "b")], "environment variable X")


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"s", "s"), (b"s\n", "s"), (b"s\r\n", "s"), (b"s\n\n", "s\n"), (b"s\r", "s\r"), (b"", ""), (b" s ", " s ")],
)
def test_a_file_loses_one_newline_at_its_end(content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert fill("${file:secret}", {}, tmp_path).data == text
    assert fill(f"${{file:{tmp_path}/secret}}", {}, Path("/nowhere")).data == text


def test_missing_variables_are_named(tmp_path: Path) -> None:
    message = problem("${A}${NOPE}", tmp_path, {"A": "hidden-value"})
    assert message.startswith("environment variable NOPE is not set")
    assert "hidden-value" not in message


def test_every_missing_part_of_a_string_is_reported(tmp_path: Path) -> None:
    assert len(fill("${A} ${B}", {}, tmp_path).problems) == 2


@pytest.mark.parametrize("value", ["${not valid}", "${}", "${1A}", "${A-B}", "${env:A}", "${A:B}", "${:-x}", "${A?}"])
def test_other_placeholders_are_refused_with_the_way_out(value: str, tmp_path: Path) -> None:
    assert 'write "$${" for a literal "${"' in problem(value, tmp_path)


def test_an_open_placeholder_is_refused(tmp_path: Path) -> None:
    assert problem("a ${NAME", tmp_path).startswith('has "${" without its "}"')


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * (FILE_LIMIT + 1))
    (tmp_path / "full").write_bytes(b"x" * FILE_LIMIT)
    os.mkfifo(tmp_path / "pipe")
    assert "No such file" in problem("${file:gone}", tmp_path)
    assert "not a regular file" in problem("${file:.}", tmp_path)
    assert "not a regular file" in problem("${file:}", tmp_path)
    assert "not a regular file" in problem("${file:pipe}", tmp_path)
    assert "not UTF-8" in problem("${file:binary}", tmp_path)
    assert "larger than 64 KiB" in problem("${file:large}", tmp_path)
    assert "cannot be read" in problem("${file:a\0b}", tmp_path)
    assert len(fill("${file:full}", {}, tmp_path).data) == FILE_LIMIT


def test_where_a_value_came_from_is_named_without_the_value(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden-value")
    filled = fill({"k": "${A} ${file:secret} ${UNSET:-x} ${A}"}, {"A": "hidden-value"}, tmp_path)
    assert filled.sources == {("k",): "environment variable A and the file secret and environment variable UNSET"}


@pytest.mark.parametrize(
    ("value", "whole"), [("${A}", True), ("${A:-1}", True), ("${file:f}", True), ("${A}${A}", False), ("$${", False)]
)
def test_a_text_of_one_placeholder_may_become_another_type(value: str, whole: bool, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1")
    assert (("k",) in fill({"k": value}, {"A": "1"}, tmp_path).whole) is whole


def test_only_mistakes_in_the_file_are_malformed(tmp_path: Path) -> None:
    filled = fill({"unset": "${A}", "gone": "${file:gone}", "bad": "${A-B}", "open": "${A"}, {}, tmp_path)
    assert {path for path, _ in filled.problems} == {("unset",), ("gone",), ("bad",), ("open",)}
    assert filled.malformed == {("bad",), ("open",)}
