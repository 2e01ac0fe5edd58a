"""The file of keys: rights on it, damage, and several commands at a time."""

import fcntl
import os
import subprocess
import sys
import threading

import pytest
from gateway_auth_apikey import key_file
from gateway_auth_apikey.key_file import KeyFileError, add, mark_of, read, remove
from gateway_auth_apikey.records import new

ALICE, BOB = (new(name)[1] for name in ("alice", "bob"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mcp-proxy.keys"


def test_records_are_added_and_removed_and_only_the_owner_has_rights(path):
    assert read(path).records == ()
    add(path, ALICE)
    add(path, BOB)
    assert read(path).records == (ALICE, BOB)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("# Keys of the plugin auth_apikey")
    remove(path, [ALICE.id])
    assert read(path).records == (BOB,)
    assert sorted(path.parent.iterdir()) == [path], "no drafts are left"


def test_lines_of_people_stay_when_a_command_changes_the_file(path):
    path.write_text(f"# mine\n\n{ALICE.line()}\r\n  # also\u2028mine\n{BOB.line()}")
    path.chmod(0o600)
    remove(path, [BOB.id])
    assert path.read_bytes().decode() == f"# mine\n\n{ALICE.line()}\r\n  # also\u2028mine\n"


def test_a_change_changes_the_mark_and_nothing_else_does(path):
    assert mark_of(path) == () == read(path).mark
    add(path, ALICE)
    before = mark_of(path)
    assert read(path).mark == before != ()
    add(path, BOB)
    assert mark_of(path) != before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_file_on_which_others_have_rights_is_refused_unless_it_is_trusted(path, mode, monkeypatch):
    monkeypatch.delenv("RADIUM_TRUST_CONFIG", raising=False)
    add(path, ALICE)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=r"others may read it; run: chmod 600 .*mcp-proxy.keys"):
        read(path)
    with pytest.raises(KeyFileError, match="others may read it"):
        add(path, BOB)
    monkeypatch.setenv("RADIUM_TRUST_CONFIG", "1")
    assert read(path).records == (ALICE,)


def test_every_damaged_line_is_named_and_a_damaged_file_is_not_written(path):
    path.write_text(f"# keys\n{ALICE.line()}\nhunter2\n{{}}\n{ALICE.line()}\n")
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as refused:
        read(path)
    said = str(refused.value)
    assert f"{path}:3: is not valid JSON" in said
    assert f"{path}:4: name: " in said
    assert f"{path}:5: the id {ALICE.id} is in the file twice" in said
    assert "hunter2" not in said
    before = path.read_bytes()
    with pytest.raises(KeyFileError):
        add(path, BOB)
    assert path.read_bytes() == before


def test_many_problems_are_counted_and_not_all_shown(path):
    path.write_text("x\n" * 500)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="and 495 more") as refused:
        read(path)
    assert len(str(refused.value)) < 2000


def test_what_is_no_text_or_no_file_or_too_large_is_refused(path, monkeypatch):
    path.write_bytes(b"# ok\n\xff\n")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"mcp-proxy.keys:2: is not UTF-8"):
        read(path)
    monkeypatch.setattr(key_file, "MAX_BYTES", 3)
    with pytest.raises(KeyFileError, match="is larger than"):
        read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(KeyFileError, match="is not a regular file"):
        read(path)
    with pytest.raises(KeyFileError, match="cannot be used"):
        add(path, ALICE)
    path.rmdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(KeyFileError, match="is not a regular file"):
        read(path)


def test_a_missing_folder_is_named(path):
    with pytest.raises(KeyFileError, match="none/keys: cannot be used: No such file"):
        add(path.parent / "none" / "keys", ALICE)


def test_a_link_stays_a_link(path, tmp_path):
    real = tmp_path / "real"
    path.symlink_to(real)
    add(path, ALICE)
    assert path.is_symlink()
    assert read(path) == read(real)


CHILD = """
import sys
from pathlib import Path
from gateway_auth_apikey.key_file import add, remove
from gateway_auth_apikey.records import new
path = Path(sys.argv[1])
for number in range(9):
    record = new(f"{sys.argv[2]}-{number}")[1]
    add(path, record)
    if number % 3 == 0:
        remove(path, [record.id])
"""


def test_several_processes_at_a_time_lose_nothing(path):
    children = [subprocess.Popen([sys.executable, "-c", CHILD, str(path), str(number)]) for number in range(3)]
    assert [child.wait(50) for child in children] == [0, 0, 0]
    names = [record.name for record in read(path).records]
    assert sorted(names) == sorted(f"{child}-{number}" for child in range(3) for number in range(9) if number % 3)


def test_a_reader_never_sees_half_of_a_file(path):
    add(path, ALICE)
    ended = threading.Event()
    seen = []

    def look():
        while not ended.is_set():
            seen.append(len(read(path).records))

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(30):
        add(path, new("bob")[1])
    ended.set()
    reader.join()
    assert seen == sorted(seen)
    assert seen[0] >= 1


def test_a_lock_that_is_never_released_is_an_error_and_not_the_end(path, monkeypatch):
    monkeypatch.setattr(key_file, "LOCK_TIMEOUT", 0.2)
    add(path, ALICE)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(KeyFileError, match="another command has locked it"):
            add(path, BOB)
    add(path, BOB)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused_and_root_keeps_the_owner_of_one_that_is_trusted(path, monkeypatch):
    add(path, ALICE)
    os.chown(path, 1234, 1234)
    with pytest.raises(KeyFileError, match="belongs to another user"):
        read(path)
    monkeypatch.setenv("RADIUM_TRUST_CONFIG", "1")
    add(path, BOB)
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (1234, 0o600)
