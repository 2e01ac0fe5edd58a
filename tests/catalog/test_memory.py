"""The file of names: what it holds, when it is ignored, how large it may become."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway_core import files
from gateway_core.api import Kind
from gateway_core.catalog import memory
from gateway_core.catalog.memory import Memory, file_of
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.upstream.lists.fetched_lists import FetchedLists, Item

CONFIG = ProxyConfig(
    upstreams=(
        UpstreamConfig(name="a", transport="http", url="http://localhost/x", headers={"X-Key": "s3cret"}),
        UpstreamConfig(name="b", transport="http", url="http://localhost/y"),
    )
)


def fetched(*names: str) -> FetchedLists:
    return FetchedLists({"tool": tuple(Item("tool", name, b'{"name":"%b"}' % name.encode(), "id") for name in names)})


async def written(path: Path, **fetched_lists: FetchedLists) -> None:
    made = Memory(CONFIG, path)
    made.keep(fetched_lists)
    await made.close()


async def test_it_holds_names_only(tmp_path: Path) -> None:
    path = file_of(tmp_path / "mcp-proxy.toml")
    await written(path, a=fetched("x", "y"))
    assert path == tmp_path / "mcp-proxy.names"
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"s3cret" not in path.read_bytes()
    assert [one.name for one in Memory(CONFIG, path).lists["a"].of("tool")] == ["x", "y"]
    assert [one.name for one in tmp_path.iterdir()] == ["mcp-proxy.names"], "nothing temporary stays"


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def too_large(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" " * memory.MAX_FILE)


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
async def test_a_file_that_cannot_be_trusted_is_ignored_and_reported(
    tmp_path: Path, damage: Callable[[Path], None], logged: Callable[[], str]
) -> None:
    path = tmp_path / "n"
    await written(path, a=fetched("x"))
    damage(path)
    assert not Memory(CONFIG, path).lists
    assert "is ignored" in logged()


async def test_a_file_that_cannot_be_written_is_reported_once_and_tried_again(
    tmp_path: Path, logged: Callable[[], str]
) -> None:
    path = tmp_path / "missing" / "n"
    made = Memory(CONFIG, path)
    for name in ("x", "y"):
        made.keep({"a": fetched(name)})
        await made.close()
    assert logged().count("cannot be written") == 1
    path.parent.mkdir()
    made.keep({"a": fetched("z")})
    await made.close()
    assert [one.name for one in Memory(CONFIG, path).lists["a"].of("tool")] == ["z"]


def held(*names: str) -> dict[tuple[Kind, str], tuple[str, ...]]:
    return {("tool", name): ("a",) for name in names}


async def test_of_an_upstream_with_many_names_the_lists_are_left_out_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    monkeypatch.setattr(memory, "MAX_FILE", 4096)
    names = [f"n{number}" for number in range(300)]
    made = Memory(CONFIG, tmp_path / "n")
    made.owners.recall(held(*names) | {("tool", "y"): ("b",)}, [("a", "tool"), ("b", "tool")])
    made.keep({"a": fetched(*names), "b": fetched("y")})
    await made.close()
    again = Memory(CONFIG, tmp_path / "n")
    assert (tmp_path / "n").stat().st_size <= 4096
    assert list(again.lists) == ["b"]
    assert again.owners.holders == made.owners.holders
    assert again.owners.known == made.owners.known
    assert "too many names" not in logged()


async def test_an_upstream_with_too_many_names_costs_no_other_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    monkeypatch.setattr(memory, "MAX_FILE", 4096)
    names = [f"n{number}" for number in range(5000)]
    made = Memory(CONFIG, tmp_path / "n")
    made.owners.recall(held(*names) | {("tool", "y"): ("b",)}, [("a", "tool"), ("b", "tool")])
    for _ in range(2):
        made.keep({"a": fetched(*names), "b": fetched("y")})
        await made.close()
    again = Memory(CONFIG, tmp_path / "n")
    assert (tmp_path / "n").stat().st_size <= 4096
    assert list(again.lists) == ["b"]
    assert again.owners.holders == {("tool", "y"): ("b",)}
    assert logged().count("upstream a has too many names") == 1
    assert "upstream b" not in logged()


async def test_the_file_of_another_version_is_ignored_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(memory, "VERSION", memory.VERSION + 1)
        await written(tmp_path / "n", a=fetched("x"))
    assert not Memory(CONFIG, tmp_path / "n").lists
    assert "another version of the gateway wrote it" in logged()


async def test_a_file_that_is_ignored_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "n"
    await written(path, a=fetched("x"))
    flipped(path)
    await written(path, a=fetched("y"))
    assert [one.name for one in Memory(CONFIG, path).lists["a"].of("tool")] == ["y"]


async def test_changes_are_written_while_the_gateway_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "DELAY", 0.01)
    made = Memory(CONFIG, tmp_path / "n")
    made.keep({"a": fetched("x")})
    made.keep({"a": fetched("y")})
    while not (tmp_path / "n").exists():
        await asyncio.sleep(0.01)
    assert [one.name for one in Memory(CONFIG, tmp_path / "n").lists["a"].of("tool")] == ["y"]
    await made.close()


async def test_a_write_that_comes_late_replaces_no_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "DELAY", 0.0)
    begun: asyncio.Future[Callable[[], None]] = asyncio.get_running_loop().create_future()

    async def to_thread(write: Callable[..., None], *args: Any) -> None:
        begun.set_result(partial(write, *args))
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    made = Memory(CONFIG, tmp_path / "n")
    made.keep({"a": fetched("x")})
    late = await begun
    monkeypatch.undo()
    made.keep({"a": fetched("y")})
    await made.close()
    late()
    assert [one.name for one in Memory(CONFIG, tmp_path / "n").lists["a"].of("tool")] == ["y"]


async def test_the_last_write_does_not_block_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    replace = files.replace

    def noted(path: Path, data: bytes) -> None:
        threads.append(threading.current_thread())
        replace(path, data)

    monkeypatch.setattr(files, "replace", noted)
    await written(tmp_path / "n", a=fetched("x"))
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    made = Memory(CONFIG, tmp_path / "n", writes=False)
    made.keep({"a": fetched("x")})
    await made.close()
    assert not list(tmp_path.iterdir())
