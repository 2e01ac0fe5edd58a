"""The folder of kept lists: what is written when, what is ignored, how large it may become."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from gateway_core.config import UpstreamConfig
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.lists import kept_lists
from gateway_core.upstream.lists.fetched_lists import FetchedLists, Item
from gateway_core.upstream.lists.kept_lists import KeptLists, folder_of

A = UpstreamConfig(name="a", transport="stdio", command="server")
B = UpstreamConfig(name="b", transport="stdio", command="server")
INFO = ServerInfo("legacy", "2025-11-25", {"tools": {}}, "server", "1")


def fetched(*names: str, size: int = 0) -> FetchedLists:
    raws = (b'{"name":"%b","description":"%b"}' % (name.encode(), b"x" * size) for name in names)
    items = (Item("tool", name, raw, "id") for name, raw in zip(names, raws, strict=True))
    return FetchedLists({"tool": tuple(items)})


async def written(folder: Path, config: UpstreamConfig, lists: FetchedLists) -> None:
    made = KeptLists(folder)
    made.keep(config, INFO, lists)
    await made.close()


def known(folder: Path, config: UpstreamConfig = A) -> list[str]:
    found = KeptLists(folder).known(config)
    return [] if found is None else [item.name for item in found.lists.of("tool")]


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """What the gateway has logged so far."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="INFO", format="{message}")
    yield lambda: "".join(lines)
    logger.remove(sink)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "mcp-proxy.toml")


async def test_the_lists_of_each_upstream_are_in_a_file_that_only_the_user_can_read(folder: Path) -> None:
    await written(folder, A, fetched("x", "y"))
    await written(folder, B, fetched("z"))
    assert folder.name == "mcp-proxy.lists"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {one.name: one.stat().st_mode & 0o777 for one in folder.iterdir()} == {"a.json": 0o600, "b.json": 0o600}
    assert (known(folder), known(folder, B)) == (["x", "y"], ["z"])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def too_large(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" " * kept_lists.MAX_FILE)


def open_to_others(path: Path) -> None:
    path.chmod(0o666)


def a_link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [flipped, truncated, emptied, too_large, open_to_others, a_link, a_folder, a_pipe])
async def test_a_file_that_cannot_be_trusted_costs_the_lists_of_its_upstream_alone(
    folder: Path, damage: Callable[[Path], None], logged: Callable[[], str]
) -> None:
    await written(folder, A, fetched("x"))
    await written(folder, B, fetched("z"))
    damage(folder / "a.json")
    assert (known(folder), known(folder, B)) == ([], ["z"])
    assert logged().count("is ignored") == 1


async def test_an_ignored_file_is_replaced(folder: Path) -> None:
    await written(folder, A, fetched("x"))
    flipped(folder / "a.json")
    await written(folder, A, fetched("y"))
    assert known(folder) == ["y"]


async def test_changes_are_written_while_the_gateway_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_lists, "DELAY", 0.01)
    made = KeptLists(folder)
    made.keep(A, INFO, fetched("x"))
    made.keep(A, INFO, fetched("y"))
    async with asyncio.timeout(30):
        while known(folder) != ["y"]:
            await asyncio.sleep(0.01)
    await made.close()


async def test_equal_lists_are_not_written_again(folder: Path) -> None:
    await written(folder, A, fetched("x"))
    before = (folder / "a.json").stat().st_ino
    made = KeptLists(folder)
    assert made.known(A) is not None
    made.keep(A, INFO, fetched("x"))
    await made.close()
    assert (folder / "a.json").stat().st_ino == before
    made.keep(A, INFO, fetched("x", "y"))
    await made.close()
    assert known(folder) == ["x", "y"]


async def test_an_older_write_that_comes_late_replaces_no_newer_one(folder: Path) -> None:
    made = KeptLists(folder)
    made.keep(A, INFO, fetched("old"))
    late, made._changes = made._changes, {}
    made.keep(A, INFO, fetched("new"))
    await made.close()
    made._write(late)
    assert known(folder) == ["new"]


async def test_lists_that_may_not_be_kept_any_more_are_removed(folder: Path) -> None:
    await written(folder, A, fetched("x"))
    await written(folder, A, FetchedLists())
    assert not list(folder.iterdir())


async def test_lists_that_are_too_large_are_not_kept_and_reported_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    monkeypatch.setattr(kept_lists, "MAX_FILE", 4096)
    made = KeptLists(folder)
    for size in (10, 5000, 6000, 20):
        made.keep(A, INFO, fetched("x", size=size))
        await made.close()
        assert known(folder) == (["x"] if size < 4096 else [])
    assert logged().count("the lists of upstream a are not kept") == 1


async def test_all_files_together_are_bounded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    monkeypatch.setattr(kept_lists, "MAX_TOTAL", 4096)
    await written(folder, A, fetched("x", size=3000))
    await written(folder, B, fetched("y", size=3000))
    assert (known(folder), known(folder, B)) == (["x"], [])
    assert "the lists of upstream b are not kept" in logged()
    await written(folder, A, fetched("x", size=3100))
    assert known(folder) == ["x"], "a file does not count twice while it is replaced"


async def test_a_folder_that_cannot_be_written_is_reported_once_and_tried_again(
    tmp_path: Path, logged: Callable[[], str]
) -> None:
    folder = tmp_path / "missing" / "mcp-proxy.lists"
    made = KeptLists(folder)
    for name in ("x", "y"):
        made.keep(A, INFO, fetched(name))
        await made.close()
    assert logged().count("cannot be written") == 1
    folder.parent.mkdir()
    made.keep(A, INFO, fetched("z"))
    await made.close()
    assert known(folder) == ["z"]


async def test_the_lists_of_upstreams_that_are_no_longer_configured_are_removed(folder: Path) -> None:
    await written(folder, A, fetched("x"))
    await written(folder, B, fetched("y"))
    (folder / "notes.txt").write_text("of a person")
    await KeptLists(folder).retain(["b"])
    assert {one.name for one in folder.iterdir()} == {"b.json", "notes.txt"}


async def test_what_was_kept_last_is_read_for_a_reload(folder: Path) -> None:
    made = KeptLists(folder)
    made.keep(A, INFO, fetched("x"))
    slower = A.model_copy(update={"timeout": 5.0})
    await made.read([slower])
    flipped(folder / "a.json")
    found = made.known(slower)
    assert found is not None, "it was read before"
    assert [item.name for item in found.lists.of("tool")] == ["x"]


async def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    made: Any = KeptLists()
    made.keep(A, INFO, fetched("x"))
    await made.read([A])
    await made.retain(["a"])
    await made.close()
    assert made.known(A) is None


@pytest.mark.parametrize("trap", ["link", "writable"])
async def test_a_folder_that_others_could_have_made_is_not_used(
    tmp_path: Path, folder: Path, trap: str, logged: Callable[[], str]
) -> None:
    other = tmp_path / "documents"
    await written(other, A, fetched("x"))
    if trap == "link":
        folder.symlink_to(other)
    else:
        folder = other
        folder.chmod(0o777)
    precious = other / "notes.json"
    precious.write_text("mine")
    before = (other / "a.json").read_bytes()
    assert known(folder) == []
    await written(folder, A, fetched("y"))
    await KeptLists(folder).retain(())
    assert precious.read_text() == "mine"
    assert (other / "a.json").read_bytes() == before
    assert ("symbolic link" if trap == "link" else "others may write to it") in logged()
