"""Files that the gateway keeps: which ones it reads, and how it replaces them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway_core import files
from gateway_core.files import Unusable


def test_a_file_is_replaced_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    files.replace(path, b"new")
    assert files.read(path, 100, private=True) == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["file"], "nothing temporary stays"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    files.replace(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.replace(path, b"new")
    assert files.read(path, 100) == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def linked(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (linked, "symbolic link"),
        (a_folder, "no ordinary file"),
        (lambda path: path.chmod(0o620), "others may write to it"),
        (lambda path: path.write_bytes(b"x" * 101), "it is damaged"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_not_read(tmp_path: Path, spoil: Callable[[Path], None], reason: str) -> None:
    path = tmp_path / "file"
    files.replace(path, b"content")
    spoil(path)
    with pytest.raises(Unusable, match=reason):
        files.read(path, 100)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601])
def test_a_private_file_that_others_may_read_is_not_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    files.replace(path, b"content")
    path.chmod(mode)
    assert files.read(path, 100) == b"content"
    with pytest.raises(Unusable, match=f"others may read it; run: chmod 600 {path}"):
        files.read(path, 100, private=True)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "none", 100)


def test_a_file_that_is_appended_to_is_private_and_may_be_reached_by_a_link(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "link").symlink_to(log)
    for path in (log, tmp_path / "link"):
        descriptor = files.append_to(path)
        os.write(descriptor, b"x")
        os.close(descriptor)
    assert log.read_bytes() == b"xx"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_pipe_is_appended_to_while_a_process_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device or address"):
        files.append_to(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    descriptor = files.append_to(path)
    assert os.get_blocking(descriptor)  # what is written to a full pipe waits, and is not lost
    os.close(descriptor)
    os.close(reader)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_is_appended_to_what_another_user_made(tmp_path: Path, kind: str) -> None:
    mine, path = tmp_path / "mine", tmp_path / "log"
    mine.write_bytes(b"mine")
    if kind == "link":
        path.symlink_to(mine)
    else:
        path.write_bytes(b"")
    os.lchown(path, 1234, 1234)
    with pytest.raises(OSError, match="log belongs to another user"):
        files.append_to(path)
    assert mine.read_bytes() == b"mine"


def test_a_private_file_is_created_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in (b"one", b"two"):
        descriptor = files.open_private(path)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text)
        assert os.pread(descriptor, 100, 0).endswith(text)
        os.close(descriptor)
    assert files.read_private(path, 100) == b"onetwo"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["link", "readable", "pipe", "folder"])
def test_a_private_file_is_an_ordinary_file_of_this_user_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    if kind == "link":
        path.symlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch(0o640)
    with pytest.raises((Unusable, IsADirectoryError)):
        os.close(files.open_private(path))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("rule", "allowed", "refused", "advice"),
    [
        (files.Rule.SECRET, (0o600, 0o700), (0o640, 0o604, 0o610, 0o620, 0o602), "others may read it; run: chmod 600 "),
        (files.Rule.OWN, (0o600, 0o644, 0o755), (0o620, 0o602, 0o666), "others may write to it; run: chmod go-w "),
        (
            files.Rule.PUBLIC,
            (0o600, 0o664),
            (0o602, 0o646),
            "every user of this machine may write to it; run: chmod o-w",
        ),
    ],
)
def test_the_rules_for_modes(
    tmp_path: Path, rule: files.Rule, allowed: tuple[int, ...], refused: tuple[int, ...], advice: str
) -> None:
    path = tmp_path / "file"
    files.replace(path, b"")
    for mode in allowed:
        path.chmod(mode)
        files.check(path, path.stat(), rule)
    for mode in refused:
        path.chmod(mode)
        with pytest.raises(Unusable, match=advice):
            files.check(path, path.stat(), rule)
        with pytest.raises(Unusable, match=files.TRUST_VARIABLE):
            files.check(path, path.stat(), rule, provided=True, env={})
        with pytest.raises(Unusable):
            files.check(path, path.stat(), rule, env={files.TRUST_VARIABLE: "1"})
        files.check(path, path.stat(), rule, provided=True, env={files.TRUST_VARIABLE: "1"})


@pytest.mark.parametrize(("rule", "foreign"), [(files.Rule.SECRET, 0), (files.Rule.OWN, 0), (files.Rule.PUBLIC, 1)])
def test_the_rules_for_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: files.Rule, foreign: int) -> None:
    """`foreign`: whether the file may be another user's."""
    path = tmp_path / "file"
    files.replace(path, b"")
    status = path.stat()
    monkeypatch.setattr(os, "geteuid", lambda: status.st_uid + 1000)
    if foreign or not status.st_uid:  # root's files are anybody's
        files.check(path, status, rule)
    fields = list(status)
    fields[4] = 4321
    if foreign:
        files.check(path, os.stat_result(fields), rule)
        return
    with pytest.raises(Unusable, match="it belongs to another user"):
        files.check(path, os.stat_result(fields), rule)


def test_a_secret_that_an_operator_provides_may_be_readable_where_that_is_intended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    files.replace(path, b"key")
    path.chmod(0o644)
    monkeypatch.setenv(files.TRUST_VARIABLE, "1")
    assert files.read_secret(path, 10) == b"key"
    with pytest.raises(Unusable, match="others may read it"):
        files.read_private(path, 10)


def test_damage_is_found_by_the_checksum() -> None:
    data = files.with_checksum(b"body")
    assert files.without_checksum(data) == b"body"
    assert len(data) == files.CHECKSUM_SIZE + 4
    for damaged in (b"", data[:-1], data + b"x", data[:64] + b" " + data[65:], data.upper()):
        with pytest.raises(Unusable, match="damaged"):
            files.without_checksum(damaged)


def test_a_file_of_the_operator_may_be_a_link_as_in_a_mounted_secret(tmp_path: Path) -> None:
    path = tmp_path / "key"
    files.replace(path, b"content")
    linked(path)
    assert files.read_secret(path, 100) == b"content"
    (tmp_path / "other").chmod(0o644)
    with pytest.raises(Unusable):
        files.read_secret(path, 100)
