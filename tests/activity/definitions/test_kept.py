"""The file of changes: read back as written, ignored if it is not usable."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from gateway_core.activity.definitions.kept import MAX_FILE, VERSION, ChangesFile, Content
from tests.activity.definitions.test_changes import change


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logger.add(lines.append, format="{message}", level="WARNING")
    yield lines
    logger.remove(handler)


def test_what_was_written_is_read(tmp_path: Path, log: list[str]) -> None:
    path = tmp_path / "changes"
    content = Content(VERSION, 3, [change(1), change(2, text="ä\n")])
    ChangesFile(path).write(content)
    assert ChangesFile(path).read() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert log == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "large", "version"])
def test_a_damaged_file_is_ignored_with_one_warning(tmp_path: Path, log: list[str], damage: str) -> None:
    path = tmp_path / "changes"
    ChangesFile(path).write(Content(VERSION + (damage == "version"), 0, [change(1)]))
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-3],
            "flipped": data.replace(b"tool", b"look"),
            "empty": b"",
            "large": data + b" " * MAX_FILE,
            "version": data,
        }[damage]
    )
    assert ChangesFile(path).read().changes == []
    (line,) = log
    assert "is ignored" in line


def test_a_file_that_others_can_read_is_ignored(tmp_path: Path, log: list[str]) -> None:
    path = tmp_path / "changes"
    ChangesFile(path).write(Content(VERSION, 0, [change(1)]))
    path.chmod(0o644)
    assert ChangesFile(path).read().changes == []
    assert "others may read it" in log[0]


def test_a_file_that_cannot_be_written_is_reported_once(tmp_path: Path, log: list[str]) -> None:
    file = ChangesFile(tmp_path / "missing" / "changes")
    for _ in range(2):
        file.write(Content(VERSION, 0, []))
    (line,) = log
    assert "cannot be written" in line


def test_without_a_path_nothing_is_kept() -> None:
    file = ChangesFile(None)
    assert not file
    assert file.read().changes == []
