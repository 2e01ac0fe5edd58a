"""The file of the entries: lock, append, rotation, and what a crash or a full disk left behind."""

import multiprocessing
import os
import time

import pytest
from gateway_audit_log import journal as journal_module
from gateway_audit_log.chaining import ZERO, Keys
from gateway_audit_log.journal import Head, Journal, JournalError, older_files
from gateway_audit_log.reading import entries_of, files_of
from gateway_audit_log.verifying import verify

KEYS = Keys(None, b"digest")


def opened(path, **settings):
    return Journal(path, KEYS, **{"max_bytes": 1 << 20, "max_age": None, "kept": None, **settings})


def bodies(count, size=10):
    return [{"type": "call", "name": "x" * size, "number": number} for number in range(count)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


def test_entries_are_chained_across_runs(path):
    for run in range(3):
        log = opened(path)
        assert log.head.seq == run * 2
        assert log.append(bodies(2)) == 2
        log.close()
    entries = list(entries_of([path]))
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry["prev"] for entry in entries] == [ZERO, *(entry["hash"] for entry in entries[:-1])]
    assert verify([path], KEYS).count == 0


def test_only_the_owner_has_rights_on_the_files(path):
    opened(path).close()
    assert {one.name: one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {
        "audit.jsonl": 0o600,
        "audit.jsonl.lock": 0o600,
    }


def _hold(path, ready, done):
    log = opened(path)
    ready.set()
    done.wait(30)
    log.close()


def test_a_file_that_another_process_writes_to_is_refused(path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(path, ready, done))
    process.start()
    try:
        assert ready.wait(30)
        with pytest.raises(JournalError, match="another process writes to it"):
            opened(path)
    finally:
        done.set()
        process.join(30)
    opened(path).close()


@pytest.mark.parametrize("kind", ["link", "folder", "readable", "other"])
def test_a_file_that_is_not_a_private_log_is_refused(path, kind):
    if kind == "link":
        path.symlink_to(path.with_name("elsewhere"))
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("important: do not touch\n" * 10)
        path.chmod(0o644 if kind == "readable" else 0o600)
    with pytest.raises(JournalError, match=str(path)):
        opened(path)
    if path.is_file():
        assert path.read_text() == "important: do not touch\n" * 10
        path.unlink()
        opened(path).close()  # the lock was released


@pytest.mark.parametrize(
    "left", [b"{", b'{"seq":4,"type":"call","na', b'{"seq":4}\n', b"\n\n", b'{"seq":4,"x":"' + b"y" * 200_000]
)
def test_what_a_crash_left_is_kept_and_noted(path, left):
    log = opened(path)
    log.append(bodies(3))
    log.close()
    with path.open("ab") as file:
        file.write(left)
    log = opened(path)
    assert log.head.seq == 3
    log.append(bodies(2))
    log.close()
    assert left in path.read_bytes()
    assert [(one["seq"], one["type"]) for one in entries_of([path])][3:] == [(4, "recovered"), (5, "call"), (6, "call")]
    report = verify([path], KEYS)
    assert report.findings == []
    assert len(report.notes) == 1
    assert f"{len(left)} bytes" in report.notes[0]


def test_a_file_with_nothing_but_a_half_line(path):
    path.write_bytes(b'{"seq":1,"ty')
    path.chmod(0o600)
    log = opened(path)
    log.append(bodies(1))
    log.close()
    assert [one["type"] for one in entries_of([path])] == ["recovered", "call"]
    assert verify([path], KEYS).count == 0


def test_files_are_rotated_by_size_and_the_chain_goes_on(path):
    log = opened(path, max_bytes=64 * 1024)
    for _ in range(20):
        log.append(bodies(20, 1000))
    log.close()
    files = files_of(path)
    assert len(files) > 5
    assert files[:-1] == older_files(path)
    assert all(one.stat().st_mode & 0o777 == 0o600 for one in files)
    assert verify(files, KEYS).entries == 400
    assert verify(files, KEYS).count == 0
    last = list(entries_of([files[0]]))[-1]["seq"]
    assert files[0].name == f"audit.jsonl.{last:012d}"
    log = opened(path)
    assert log.head.seq == 400
    log.close()


def test_files_are_rotated_by_age(path, monkeypatch):
    log = opened(path, max_age=60)
    log.append(bodies(1))
    log.append(bodies(1))
    assert len(files_of(path)) == 1
    now = time.time() + 61
    monkeypatch.setattr(journal_module.time, "time", lambda: now)
    log.append(bodies(1))
    log.close()
    assert [len(list(entries_of([one]))) for one in files_of(path)] == [2, 1]


def test_old_files_are_removed_only_if_the_settings_say_so(path):
    log = opened(path, max_bytes=64 * 1024, kept=2)
    for _ in range(20):
        log.append(bodies(20, 1000))
    log.close()
    files = files_of(path)
    assert len(files) == 3
    report = verify(files, KEYS)
    assert report.count == 0
    assert "earlier ones are not here" in report.notes[0]


def test_a_start_right_after_a_rotation_finds_the_chain(path):
    log = opened(path)
    log.append(bodies(3))
    log.close()
    path.rename(path.with_name("audit.jsonl.000000000003"))
    log = opened(path)
    assert log.head.seq == 3
    log.append(bodies(1))
    log.close()
    assert verify(files_of(path), KEYS).count == 0


@pytest.mark.parametrize("room", [0, 1, 100, 299, 700, 1500])
def test_a_full_disk_loses_and_repeats_nothing(path, monkeypatch, room):
    """`room`: bytes that the disk still takes."""
    log = opened(path)
    log.append(bodies(2))
    write, left = os.write, [room]

    def full(descriptor, data):
        if left[0] <= 0:
            raise OSError(28, "No space left on device")
        done = write(descriptor, data[: left[0]])
        left[0] -= done
        return done

    pending = bodies(10)

    def tried():
        """Whether anything was written."""
        try:
            del pending[: log.append(pending)]
        except OSError as error:
            return error.errno != 28
        return True

    monkeypatch.setattr(journal_module.os, "write", full)
    while tried():
        pass
    left[0] = 40  # and a little more, which does not suffice
    assert not tried()
    assert not tried()
    monkeypatch.setattr(journal_module.os, "write", write)
    while pending:
        del pending[: log.append(pending)]
    log.close()
    calls = [one["number"] for one in entries_of([path]) if one["type"] == "call"]
    assert calls == [0, 1, *range(10)]
    assert verify([path], KEYS).findings == []


def test_the_head_is_the_last_entry(path):
    log = opened(path)
    assert log.head == Head(0, ZERO)
    log.append(bodies(2))
    assert log.head.hash == list(entries_of([path]))[-1]["hash"]
    log.close()
