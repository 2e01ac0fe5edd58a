import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from gateway_core.log import access, lines, output
from gateway_core.log.escaping import escape
from gateway_core.log.sink import FileTarget, LineSink
from gateway_core.log.sparing import MAX_KEYS, PERIOD, Sparing


@dataclass(frozen=True)
class Settings:
    file: str | None
    level: str = "INFO"
    format: lines.Format = "text"
    max_bytes: int = 0
    kept_files: int = 0


@pytest.fixture
def log_to(tmp_path):
    """`log_to(form)` sets logging up and returns a function that gives the lines written so far."""
    handlers, level = logging.root.handlers[:], logging.root.level
    path = tmp_path / "gateway.log"

    def start(form: lines.Format = "text", least: str = "INFO"):
        output.setup(Settings(str(path), least, form), to_terminal=False)

        def written() -> list[str]:
            output.flush()
            return path.read_text().splitlines()

        return written

    yield start
    logger.remove()
    output._active.clear()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


class Memory:
    """A target that keeps what it gets, or refuses it, or stalls."""

    def __init__(self) -> None:
        self.data = b""
        self.error: OSError | None = None
        self.open = threading.Event()
        self.open.set()

    def write(self, data: bytes) -> None:
        self.open.wait(10)
        if self.error is not None:
            raise self.error
        self.data += data

    def reopen(self) -> None: ...
    def close(self) -> None: ...


def _render(record) -> str:
    return str(record["message"])


def test_text_line_is_time_level_message_and_fields(log_to):
    written = log_to()
    logger.bind(upstream="time", calls=3).info("upstream is up")
    stamp, rest = written()[0].split(" ", 1)
    assert datetime.fromisoformat(stamp).tzinfo is not None
    assert datetime.now().astimezone() - datetime.fromisoformat(stamp) < timedelta(minutes=5)
    assert rest == "INFO    upstream is up upstream=time calls=3"


def test_json_line_is_one_object(log_to):
    written = log_to("json")
    logger.bind(upstream="time", seconds=0.5, ok=True, level="fake", inf=float("inf"), big=10**40).warning("slow")
    found = json.loads(written()[0])
    assert found.pop("time").startswith("20")
    assert found == {
        "level": "WARNING",
        "message": "slow",
        "upstream": "time",
        "seconds": 0.5,
        "ok": True,
        "level_": "fake",
        "inf": "inf",
        "big": "1" + "0" * 40,
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_strangers_cannot_begin_a_line_or_move_the_cursor(log_to, form):
    written = log_to(form)
    evil = 'x\n12:00:00 INFO forged\r\x1b[2J\u2028\u202e\x85{"level":"INFO"}\ud800'
    logger.bind(tool=evil, **{evil: 1}).info(evil)
    (line,) = written()
    assert line.isprintable()
    assert "forged" in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_one_field_without_values_of_variables(log_to, form):
    written = log_to(form)
    password = "hunter2-canary"
    try:
        {}["missing\nkey"] if password else None
    except KeyError:
        logger.exception("broken")
    (line,) = written()
    assert "KeyError" in line
    assert "Traceback" in line
    assert "hunter2-canary'" not in line


def test_fields_are_capped(log_to):
    written = log_to()
    logger.bind(payload="a" * 100_000).info("m" * 100_000)
    assert len(written()[0]) < 3 * lines.MAX_FIELD


def test_a_value_that_cannot_be_shown_does_not_break_the_line(log_to):
    class Broken:
        def __str__(self) -> str:
            raise ValueError("no")

    loop: list[object] = []
    loop.append(loop)
    written = log_to()
    logger.bind(a=Broken(), b={"k": Broken()}, c=loop, d="two words", e="").info("still here")
    assert 'a="<Broken: ValueError>"' in written()[0]
    assert 'd="two words" e=""' in written()[0]


def test_standard_library_records_come_along_from_warning(log_to):
    written = log_to()
    logging.getLogger("aiohttp.server").info("not this")
    logging.getLogger("aiohttp.server").warning("bad %s", "request\n")
    logging.getLogger("asyncio").error("%d", "no number")
    assert [line.split(" ", 1)[1] for line in written()] == [
        "WARNING bad request\\n logger=aiohttp.server",
        "ERROR   %d logger=asyncio",
    ]


def test_the_level_decides_what_is_written(log_to):
    written = log_to(least="WARNING")
    logger.info("no")
    logger.warning("yes")
    assert [line.split(" ", 1)[1] for line in written()] == ["WARNING yes"]


def test_nothing_goes_to_stdout(tmp_path):
    code = (
        "from gateway_core.log.output import setup; from loguru import logger; import logging\n"
        "class S: level='DEBUG'; format='text'; file=None; max_bytes=0; kept_files=0\n"
        "setup(S(), to_terminal=True); logger.info('hello'); logging.warning('there')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert found.stdout == ""
    assert [line.split(" ", 1)[1] for line in found.stderr.splitlines()] == [
        "INFO    hello",
        "WARNING there logger=root",
    ]


def test_a_rotated_file_is_opened_again(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway_core.log.sink.REOPEN_INTERVAL", 0.0)
    path = tmp_path / "a.log"
    target = FileTarget(path)
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
    target = FileTarget(tmp_path / "a.log", max_bytes=100, kept=kept)
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
    target = FileTarget(tmp_path / "a.log", max_bytes=100, kept=1)
    target.write(b"y" * 20)
    target.close()
    assert _sizes(tmp_path) == {"a.log": 20, "a.log.1": 90}


def test_two_processes_that_write_to_one_file_lose_no_line(tmp_path):
    one, other = (FileTarget(tmp_path / "a.log", max_bytes=100, kept=3) for _ in range(2))
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
    target = FileTarget(tmp_path / "a.log", max_bytes=10, kept=1)
    for _ in range(3):
        target.write(b"12345678\n")
    target.close()
    assert (tmp_path / "a.log").read_bytes() == b"12345678\n" * 3


def test_what_is_no_file_is_not_rotated():
    target = FileTarget(Path(os.devnull), max_bytes=10, kept=1)
    for _ in range(3):
        target.write(b"12345678\n")
    target.close()
    assert Path(os.devnull).is_char_device()


def test_the_line_of_a_call_has_further_members_in_json_only(log_to):
    members = {"method": "tools/call", "tool": "echo", "principal": "a@b"}
    written = log_to("json")
    output.note("tools/call echo", {"agent": "a@b"}, members)
    found = json.loads(written()[0])
    assert {key: found[key] for key in ("agent", *members)} == {"agent": "a@b", **members}
    written = log_to("text")
    output.note("tools/call echo", {"agent": "a@b"}, members)
    assert written()[-1].split(" ", 1)[1] == "INFO    tools/call echo agent=a@b"


@pytest.mark.parametrize(
    ("method", "name", "shown"),
    [
        ("tools/call", "echo", "echo"),
        ("resources/read", "file:///a/b", "file:///a/b"),
        ("resources/read", "https://u:hush@host/p?token=hush#x", "https://***@host/p?…"),
        ("tasks/get", "hush", ""),
    ],
)
def test_the_name_of_a_call_is_shown_without_secrets(method, name, shown):
    assert access.shown_name(method, name) == shown


def test_the_members_of_a_call_name_what_it_asks_for():
    assert access.members("prompts/get", "p", "me") == {"method": "prompts/get", "prompt": "p", "principal": "me"}
    assert access.members("tools/list", "", "me") == {"method": "tools/list", "principal": "me"}


def test_a_signalled_rotation_opens_the_file_again(log_to, tmp_path):
    written = log_to()
    logger.info("one")
    written()
    (tmp_path / "gateway.log").rename(tmp_path / "old")
    output.reopen()
    logger.info("two")
    assert [line.split(" ", 1)[1] for line in written()] == ["INFO    two"]


def test_a_stalled_target_holds_nobody_up_and_loses_only_what_does_not_fit():
    target = Memory()
    target.open.clear()
    sink = LineSink(target, _render, max_lines=10, max_bytes=1000)
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
    sink = LineSink(target, _render, max_lines=1000, max_bytes=1000)
    for _ in range(100):
        sink.put("x" * 99)
    assert sink.dropped >= 80
    target.open.set()
    sink.stop()


def test_a_full_disk_drops_counts_and_recovers():
    target = Memory()
    sink = LineSink(target, _render, report=0.0)
    target.error = OSError(28, "No space left on device")
    for _ in range(3):
        sink.put("lost", urgent=True)
        assert sink.flush()
    assert sink.dropped == 3
    target.error = None
    sink.put("kept", urgent=True)
    assert sink.flush()
    sink.stop()
    assert target.data == b"\nkept\nlog lines were dropped\n"


def test_drops_are_reported_once_per_interval():
    target = Memory()
    sink = LineSink(target, _render, report=60.0)
    for _ in range(3):
        target.error = OSError(28, "full")
        sink.put("lost", urgent=True)
        sink.flush()
        target.error = None
        sink.put("kept", urgent=True)
        sink.flush()
    sink.stop()
    assert target.data.count(b"log lines were dropped") == 1


def test_a_file_that_cannot_be_opened_is_told_at_once(tmp_path):
    (tmp_path / "dir.log").mkdir()
    with pytest.raises(OSError, match="directory"):
        output.setup(Settings(str(tmp_path / "dir.log")), to_terminal=False)


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


def test_escape_leaves_plain_text_alone():
    assert escape("grüße 世界") == "grüße 世界"
    assert escape("a\tb\x00\x9b") == "a\\tb\\x00\\x9b"


@pytest.mark.parametrize("size", [1, 64, 65, 2000])
def test_escape_finds_what_is_not_printable_in_texts_of_any_size(size):
    plain = "".join(chr(32 + number % 95) for number in range(size))
    assert escape(plain) == plain
    assert escape(f"{plain}é") == f"{plain}é"
    for character in map(chr, (*range(32), *range(0x7F, 0xA0), 0x2028, 0xD800, 0x1F600)):
        shown = character if character.isprintable() else character.encode("unicode_escape").decode()
        assert escape(plain + character + plain) == plain + shown + plain


def test_log_files_are_private(log_to, tmp_path: Path):
    log_to()
    assert (tmp_path / "gateway.log").stat().st_mode & 0o777 == 0o600


def test_notes_look_like_all_other_lines_and_keep_their_place(log_to):
    for form in ("text", "json"):
        written = log_to(form)
        logger.bind(agent="a@b", ms=1.25, none=None).info("one {}", "x")
        output.note("one x", {"agent": "a@b", "ms": 1.25, "none": None})
        logger.info("three")
        lines_of = [re.sub(r"\d{4}-\d\d-\d\dT[\d:.+-]+", "TIME", line) for line in written()[-3:]]
        assert lines_of[0] == lines_of[1]
        assert "three" in lines_of[2]


_VALUES = st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.text()))


@given(
    message=st.text(max_size=60),
    fields=st.dictionaries(st.sampled_from(["agent", "ms", "outcome", "upstream"]), _VALUES, max_size=4),
    form=st.sampled_from(["text", "json"]),
    when=st.floats(min_value=0, max_value=4e9),
)
def test_a_note_is_rendered_as_loguru_s_record_of_the_same_would_be(message, fields, form, when):
    renderer = lines.Renderer(form, colour=False)
    record = {
        "time": datetime.fromtimestamp(when).astimezone(),
        "level": logger.level("INFO"),
        "message": message,
        "extra": fields,
        "exception": None,
    }
    ours, theirs = renderer.render(when, "INFO", message, fields), renderer(record)
    assert ours == theirs or abs(when % 1 * 1000 % 1) > 0.999, "floats may round the last millisecond up"


def test_a_note_that_the_level_leaves_out_is_not_even_made(log_to):
    written = log_to(least="WARNING")
    output.note(lambda: pytest.fail("made in vain"), {})
    assert written() == []


def test_notes_are_bounded_and_those_that_are_lost_are_counted():
    target = Memory()
    target.open.clear()
    sink = LineSink(target, _render, max_lines=10)
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
    sink = LineSink(target, _render, max_bytes=10_000)
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
    sink = LineSink(target, _render)

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
    sink = LineSink(target, _render)
    for _ in range(3):
        target.data = b""
        sink.put("soon")
        end = time.monotonic() + 5
        while not target.data and time.monotonic() < end:
            time.sleep(0.01)
        assert b"soon" in target.data
    sink.stop()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("message", ["tools/call echo", "tools/call é\n=x 100%", "tools/call %s"])
def test_a_line_with_much_in_common_is_written_like_any_other(form: Any, colour: bool, message: str) -> None:
    differs = lines.Differs
    fields = {"exchange": differs.WORD, "agent": 'a "b" 5%s@::1', "ms": differs.NUMBER, "upstream": "up\x1b", "time": 1}
    members = {"method": "tools/call", "tool": 'a"%s', "principal": "p"}
    line, render = lines.Line(message, fields, members), lines.Renderer(form, colour)
    for values in (("1f", 0.1), ("2f", 12345.6789), ("0", 3600000.0)):
        assert render.line(1e9, line, values) == render.render(1e9, "INFO", message, line.filled(values), members)


def test_a_sparing_line_is_due_once_a_minute_for_each_of_a_bounded_number_of_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("gateway_core.log.sparing.time.monotonic", lambda: now)
    lines = Sparing()
    assert [lines.due("a"), lines.due("a"), lines.due("b")] == [True, False, True]
    now += PERIOD
    assert [lines.due("a"), lines.due("a")] == [True, False]
    assert sum(lines.due(f"stranger {number}") for number in range(2 * MAX_KEYS)) == MAX_KEYS - 1
    now += PERIOD
    assert lines.due("another")
