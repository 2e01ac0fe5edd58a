"""The replacement of the configuration file on the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path

import pytest

from gateway_core.errors import EditRefused, OutdatedEdit
from gateway_core.generations.draft import Draft, unwritable, version_of

OLD, NEW = b"# old\n", b"# new\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mcp-proxy.toml"
    path.write_bytes(OLD)
    path.chmod(0o640)
    return path


def drafted(path: Path, over: bytes = OLD, content: bytes = NEW) -> Draft:
    return Draft(path, content, version_of(over), lambda _: None)


def only_file(path: Path) -> bool:
    return os.listdir(path.parent) == [path.name]


async def test_the_file_is_replaced_whole_with_its_mode(file: Path) -> None:
    before = file.stat()
    seen: list[bytes] = []
    draft = Draft(file, NEW, version_of(OLD), lambda by: seen.append(by.read_bytes()))
    assert file.read_bytes() == OLD
    await draft.save()
    after = file.stat()
    assert file.read_bytes() == NEW
    assert seen == [NEW]
    assert draft.version == version_of(NEW)
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert only_file(file)


async def test_a_link_stays_a_link_and_what_it_leads_to_is_replaced(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    link = folder / "linked.toml"
    link.symlink_to(Path("..") / file.name)
    await drafted(link).save()
    assert link.is_symlink()
    assert file.read_bytes() == NEW
    assert only_file(link)


async def test_a_byte_order_mark_stays(file: Path) -> None:
    mark = "\ufeff".encode()
    file.write_bytes(mark + OLD)
    await drafted(file, mark + OLD).save()
    assert file.read_bytes() == mark + NEW


async def test_another_version_on_the_disk_is_not_overwritten(file: Path) -> None:
    draft = drafted(file)
    file.write_bytes(b"# by an editor\n")
    with pytest.raises(OutdatedEdit):
        await draft.save()
    assert file.read_bytes() == b"# by an editor\n"
    assert only_file(file)


async def test_a_file_that_is_gone_is_not_made_again(file: Path) -> None:
    draft = drafted(file)
    file.unlink()
    with pytest.raises(OutdatedEdit):
        await draft.save()
    assert os.listdir(file.parent) == []


def test_a_file_without_the_right_to_write_is_not_replaced(file: Path) -> None:
    assert unwritable(file) == ""
    file.chmod(0o444)
    assert unwritable(file) == "it is read-only"
    with pytest.raises(EditRefused, match="read-only"):
        drafted(file)
    assert only_file(file)


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EROFS, errno.EXDEV])
async def test_a_file_that_is_mounted_by_itself_is_refused_and_nothing_is_left(
    file: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = drafted(file)

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(EditRefused, match=os.strerror(code)):
        await draft.save()
    assert only_file(file)
    assert file.read_bytes() == OLD


async def test_a_full_disk_is_an_error_that_leaves_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        await drafted(file).save()
    assert only_file(file)
    assert file.read_bytes() == OLD


async def test_a_cancelled_replacement_is_undone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    go_on = asyncio.Event()

    def hold(_: Path) -> None:
        if not begun.is_set():
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(60)

    saving = asyncio.ensure_future(Draft(file, NEW, version_of(OLD), hold).save())
    await begun.wait()
    saving.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert file.read_bytes() == OLD
    assert only_file(file)


async def test_a_replacement_that_is_cancelled_while_it_is_written_leaves_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, begun, go_on, fsync = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event(), os.fsync

    def slow(descriptor: int) -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(60)
        fsync(descriptor)

    draft = drafted(file)
    assert only_file(file), "nothing is written before `save`, which removes it again"
    monkeypatch.setattr(os, "fsync", slow)
    saving = asyncio.ensure_future(draft.save())
    await begun.wait()
    saving.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert file.read_bytes() == OLD
    assert only_file(file)


async def test_a_replacement_that_is_cancelled_again_and_again_is_undone(file: Path) -> None:
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def hold(_: Path) -> None:
        if not begun.is_set():
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(60)

    saving = asyncio.ensure_future(Draft(file, NEW, version_of(OLD), hold).save())
    await begun.wait()
    for _ in range(3):
        saving.cancel()
        await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(60):
        while not saving.done():
            saving.cancel()
            await asyncio.sleep(0)
    assert saving.cancelled()
    assert file.read_bytes() == OLD
    assert only_file(file)
