"""The log as a whole: levels, targets, and notes."""

import json
import logging
import re
import subprocess
import sys

import pytest
from loguru import logger

from gateway_core.concealing import HeldSecrets, Secret
from gateway_core.log import output
from gateway_core.log.lines import Differs, Line
from tests.log.kit import Settings


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


def test_the_line_of_a_call_has_further_members_in_json_only(log_to):
    members = {"method": "tools/call", "tool": "echo", "principal": "a@b"}
    written = log_to("json")
    output.note("tools/call echo", {"agent": "a@b"}, members)
    found = json.loads(written()[0])
    assert {key: found[key] for key in ("agent", *members)} == {"agent": "a@b", **members}
    written = log_to("text")
    output.note("tools/call echo", {"agent": "a@b"}, members)
    assert written()[-1].split(" ", 1)[1] == "INFO    tools/call echo agent=a@b"


def test_a_file_that_cannot_be_opened_is_told_at_once(tmp_path):
    (tmp_path / "dir.log").mkdir()
    with pytest.raises(OSError, match="directory"):
        output.setup(Settings(str(tmp_path / "dir.log")), to_terminal=False)


def test_notes_look_like_all_other_lines_and_keep_their_place(log_to):
    for form in ("text", "json"):
        written = log_to(form)
        logger.bind(agent="a@b", ms=1.25, none=None).info("one {}", "x")
        output.note("one x", {"agent": "a@b", "ms": 1.25, "none": None})
        logger.info("three")
        lines_of = [re.sub(r"\d{4}-\d\d-\d\dT[\d:.+-]+", "TIME", line) for line in written()[-3:]]
        assert lines_of[0] == lines_of[1]
        assert "three" in lines_of[2]


def test_a_note_that_the_level_leaves_out_is_not_even_made(log_to):
    written = log_to(least="WARNING")
    output.note(lambda: pytest.fail("made in vain"), {})
    assert written() == []


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_contains_a_secret_of_the_gateway(log_to, form):
    secret = 'hu5hAbC9dEf "GhJ" x'
    written = log_to(form, held=HeldSecrets([Secret("a", secret)]))
    logger.bind(value=secret).info("loguru {}", secret)
    output.note(f"note {secret}", {"value": secret})
    output.note_line(Line(f"line {secret}", {"value": secret, "n": Differs.NUMBER}), (1.0,))
    logging.getLogger("x").warning("standard library %r", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        logger.exception("failed")
    lines_of = written()
    assert len(lines_of) == 5
    assert not any("hu5h" in line or "GhJ" in line for line in lines_of)
    assert sum("[REDACTED]" in line for line in lines_of) == 5
    if form == "json":
        assert [json.loads(line)["level"] for line in lines_of] == ["INFO", "INFO", "INFO", "WARNING", "ERROR"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_every_line_begins_with_date_time_and_zone(log_to, form):
    written = log_to(form)
    logger.info("one")
    output.note("two", {})
    for line in written():
        stamp = json.loads(line)["time"] if form == "json" else line.split(" ", 1)[0]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?[+-]\d\d:\d\d", stamp)


def test_a_target_that_cannot_be_written_is_a_warning(log_to, monkeypatch):
    written = log_to()
    assert output.warnings() == []
    (sink,) = output._active

    def full(data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sink.destination, "write", full)
        logger.info("lost")
        output.flush()
        (text,) = output.warnings()
        assert text == f"the log cannot be written to {sink.destination.name}; lines were dropped: 1"
    logger.info("kept")
    written()
    assert output.warnings() == []


def test_after_the_end_no_target_gets_a_line(log_to) -> None:
    written = log_to()
    output.note("before", {})
    output.end()
    output.note("after", {})
    logger.warning("after")
    assert [line for line in written() if "after" in line] == []
    assert any("before" in line for line in written())
