"""Writing lines: files, rotation, queues, and what is dropped."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from loguru import logger

from gateway_core.log import output
from gateway_core.log.sink import FileDestination, LineSink
from tests.log.kit import Memory, render


def test_a_rotated_file_is_opened_again(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway_core.log.sink.REOPEN_INTERVAL", 0.0)
    path = tmp_path / "a.log"
    target = FileDestination(path)
    target.write(b"one\n")
    path.rename(tmp_path / "a.log.1")
    target.write(b"two\n")
    path.unlink()
    target.write(b"three\n")
    target.close()
    assert (tmp_path / "a.log.1").read_text() == "one\n"
    assert path.read_text() == "three\n"
    assert path.stat().st_mode & 0o777 == 0o600


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_files_rotate_by_size_and_only_a_few_are_kept(tmp_path, kept):
    target = FileDestination(tmp_path / "a.log", max_bytes=100, kept=kept)
    for number in range(50):
        target.write(b"%02d" % number + b"x" * 27 + b"\n")
    target.close()
    names = ["a.log", *(f"a.log.{number}" for number in range(1, kept + 1))]
    assert sorted(_sizes(tmp_path)) == names
    assert max(_sizes(tmp_path).values()) <= 100
    found = [line[:2] for name in reversed(names) for line in (tmp_path / name).read_text().splitlines()]
    assert found == [f"{number:02d}" for number in range(50 - len(found), 50)]
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o600 for name in names)


def test_what_a_file_holds_from_before_counts(tmp_path):
    (tmp_path / "a.log").write_bytes(b"x" * 90)
    target = FileDestination(tmp_path / "a.log", max_bytes=100, kept=1)
    target.write(b"y" * 20)
    target.close()
    assert _sizes(tmp_path) == {"a.log": 20, "a.log.1": 90}


def test_two_processes_that_write_to_one_file_lose_no_line(tmp_path):
    one, other = (FileDestination(tmp_path / "a.log", max_bytes=100, kept=3) for _ in range(2))
    for number in range(8):
        one.write(b"one%d" % number + b"x" * 35 + b"\n")
        other.write(b"two%d" % number + b"x" * 35 + b"\n")
    one.close()
    other.close()
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert {f"one{number}" for number in range(5, 8)} <= set(re.findall(r"one\d", kept))
    assert {f"two{number}" for number in range(5, 8)} <= set(re.findall(r"two\d", kept))


def test_where_rotation_is_refused_the_file_grows_on(tmp_path):
    (tmp_path / "a.log.1").mkdir()
    (tmp_path / "a.log.1" / "x").touch()
    target = FileDestination(tmp_path / "a.log", max_bytes=10, kept=1)
    for _ in range(3):
        target.write(b"12345678\n")
    target.close()
    assert (tmp_path / "a.log").read_bytes() == b"12345678\n" * 3


def test_what_is_no_file_is_not_rotated():
    target = FileDestination(Path(os.devnull), max_bytes=10, kept=1)
    for _ in range(3):
        target.write(b"12345678\n")
    target.close()
    assert Path(os.devnull).is_char_device()


def test_a_signalled_rotation_opens_the_file_again(log_to, tmp_path):
    written = log_to()
    logger.info("one")
    written()
    (tmp_path / "gateway.log").rename(tmp_path / "old")
    output.reopen()
    logger.info("two")
    assert [line.split(" ", 1)[1] for line in written()] == ["INFO    two"]


def test_a_stalled_target_delays_no_caller_and_loses_only_what_does_not_fit():
    target = Memory()
    target.open.clear()
    sink = LineSink(target, render, max_lines=10, max_bytes=1000)
    for number in range(100):
        sink.put(str(number))
    assert target.data == b"", "the target still stalls: no line waited for it"
    lost = sink.dropped
    assert 80 <= lost <= 90  # ten in the queue, and those that the writer had already taken
    target.open.set()
    assert sink.flush()
    sink.stop()
    assert len(target.data.splitlines()) == 100 - lost + 1
    assert target.data.splitlines()[-1] == b"log lines were dropped"


def test_the_queue_is_bounded_in_bytes():
    target = Memory()
    target.open.clear()
    sink = LineSink(target, render, max_lines=1000, max_bytes=1000)
    for _ in range(100):
        sink.put("x" * 99)
    assert sink.dropped >= 80
    target.open.set()
    sink.stop()


def test_a_full_disk_drops_counts_and_recovers():
    target = Memory()
    sink = LineSink(target, render, report=0.0)
    target.error = OSError(28, "No space left on device")
    for _ in range(3):
        sink.put("lost", urgent=True)
        assert sink.flush()
    assert (sink.dropped, sink.failing) == (3, True)
    target.error = None
    sink.put("kept", urgent=True)
    assert sink.flush()
    assert not sink.failing
    sink.stop()
    assert target.data == b"\nkept\nlog lines were dropped\n"


def test_drops_are_reported_once_per_interval():
    target = Memory()
    sink = LineSink(target, render, report=60.0)
    for _ in range(3):
        target.error = OSError(28, "full")
        sink.put("lost", urgent=True)
        sink.flush()
        target.error = None
        sink.put("kept", urgent=True)
        sink.flush()
    sink.stop()
    assert target.data.count(b"log lines were dropped") == 1


def test_a_non_blocking_stderr_gets_every_line():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    code = (
        "from gateway_core.log.output import setup; from loguru import logger\n"
        "class S: level='INFO'; format='text'; file=None; max_bytes=0; kept_files=0\n"
        "setup(S(), to_terminal=False)\n"
        "for number in range(3000): logger.info('x' * 100)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=writer) as child:
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            time.sleep(0.5)
            assert len(pipe.read().splitlines()) == 3000
        assert child.wait(10) == 0


def test_log_files_are_private(log_to, tmp_path: Path):
    log_to()
    assert (tmp_path / "gateway.log").stat().st_mode & 0o777 == 0o600


def test_notes_are_bounded_and_those_that_are_lost_are_counted():
    target = Memory()
    target.open.clear()
    sink = LineSink(target, render, max_lines=10)
    for number in range(100):
        sink.put(str(number))
    assert 70 <= sink.dropped <= 90
    target.open.set()
    assert sink.flush()
    sink.stop()
    assert len(target.data.splitlines()) >= 100 - sink.dropped


def test_notes_are_bounded_in_bytes():
    target = Memory()
    target.open.clear()
    sink = LineSink(target, render, max_bytes=10_000)
    for _ in range(200):
        sink.put("x" * 1000)
    held = 200 - sink.dropped
    assert 10 <= held <= 21  # what the writer has taken, and what waits
    target.open.set()
    assert sink.flush()
    sink.stop()
    assert target.data.count(b"x" * 1000) == held


def test_notes_from_many_threads_all_arrive():
    target = Memory()
    sink = LineSink(target, render)

    def write(start: int) -> None:
        for number in range(start, start + 500):
            sink.put(f"n{number}")
            if number % 50 == 0:
                time.sleep(0.001)

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 2000, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sink.flush()
    sink.stop()
    assert len(set(target.data.split())) >= 2000
    assert len(target.data.splitlines()) == 2000


def test_a_note_gets_out_soon_without_a_flush():
    target = Memory()
    sink = LineSink(target, render)
    for _ in range(3):
        target.data = b""
        sink.put("soon")
        end = time.monotonic() + 5
        while not target.data and time.monotonic() < end:
            time.sleep(0.01)
        assert b"soon" in target.data
    sink.stop()


def _until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_file_that_cannot_be_written_is_reported_once_on_standard_error(capfd):
    target = Memory()
    sink = LineSink(target, render, report=0.0)
    for problem in ("No space left on device", "Input/output error"):
        target.error = OSError(28, problem)
        for number in range(3):
            sink.put(f"lost {number}", urgent=True)
            assert sink.flush()
        target.error = None
        sink.put("written", urgent=True)
        assert sink.flush()
    sink.stop()
    assert capfd.readouterr().err.count("the log file cannot be written, and lines are dropped") == 2
    assert target.data.count(b"log lines were dropped") == 2


def test_standard_error_that_cannot_be_written_is_not_reported_there(capfd):
    target = Memory()
    target.name = "standard error"
    target.error = OSError(32, "Broken pipe")
    sink = LineSink(target, render)
    sink.put("lost", urgent=True)
    assert sink.flush()
    sink.stop()
    assert capfd.readouterr().err == ""


def test_a_rotation_that_fails_is_reported_once_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway_core.log.sink.REOPEN_INTERVAL", 0.0)
    path = tmp_path / "a.log"
    (tmp_path / "a.log.1").mkdir()
    (tmp_path / "a.log.1" / "full").touch()
    sink = LineSink(FileDestination(path, max_bytes=100, kept=1), render)
    for number in range(30):
        sink.put(f"{number:010}", urgent=True)
        assert sink.flush()
    sink.stop()
    lines = path.read_text().splitlines()
    assert sum("the log file cannot be rotated, and keeps growing" in line for line in lines) == 1
    assert [line for line in lines if line.isdigit()] == [f"{number:010}" for number in range(30)]


def test_complete_lines_are_cleaned_before_they_are_written(tmp_path):
    target = Memory()
    sink = LineSink(target, render, clean=lambda data: data.replace(b"hush", b"***"))
    sink.put("a hush")
    sink.put("b hush", urgent=True)
    assert sink.flush()
    sink.stop()
    assert target.data == b"a ***\nb ***\n"
