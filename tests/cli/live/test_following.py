"""What a terminal shows of a running gateway: the log, events, ended calls, questions, and all of it live."""

import io
import json
import os
import pty
import re
import select
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rich.console import Console

from gateway_core.cli.live import events
from gateway_core.cli.live.calls import call_cells
from gateway_core.cli.live.top import Picture, drawn

pytestmark = pytest.mark.timeout(180)  # several processes start, one after the other


@pytest.fixture
def running(spawn: Any, with_server: Any, wait_for_upstream: Any) -> Any:
    """A gateway with one server."""
    gateway = spawn("start")
    wait_for_upstream()
    return gateway


def read(rad: Any, *command: str) -> Any:
    done = rad(*command, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lines_of(process: Any, admits: Any) -> Any:
    """The first JSON line of a process that `admits` accepts."""
    for line in process.stdout:
        if admits(found := json.loads(line)):
            return found
    raise AssertionError("the process has ended")


def test_ended_calls_and_the_log_are_shown_and_filtered(running: Any, rad: Any, wait_for: Any) -> None:
    assert "no calls have ended" in rad("calls", "--recent").stderr
    assert rad("call", "add", "--arg", "a=1", "--arg", "b=2").returncode == 0
    found = [one for one in read(rad, "calls", "--recent")["calls"] if one["name"] == "add"]
    assert [(one["outcome"], one["upstream"]) for one in found] == [("ok", "calculator")]
    shown = rad("calls", "--recent").stdout
    assert found[0]["id"] in shown

    def logged() -> Any:
        return read(rad, "logs", "--exchange", found[0]["id"])["lines"]

    wait_for(lambda: logged() and logged()[-1]["text"] == "tools/call add", 60)  # a thread writes the log
    assert logged()[-1]["fields"]["outcome"] == "ok"
    assert "tools/call add" in rad("logs", "--outcome", "ok", "-n", "5").stdout
    assert rad("logs", "--upstream", "nothing").stdout == ""
    assert rad("logs", "--level", "loud").returncode == 2
    assert "no questions wait" in rad("questions").stderr
    assert "there is no such question" in rad("questions", "--cancel", "x").stderr
    assert "there is no such question" in rad("questions", "--approve", "x").stderr
    assert rad("questions", "--approve", "x", "--deny", "x").returncode == 2


def test_events_and_the_log_go_on_after_a_restart(
    running: Any, rad: Any, spawn: Any, wait_for: Any, wait_for_upstream: Any
) -> None:
    events = spawn("events", "--type", "call,upstream", "--json")
    log = spawn("logs", "-f", "--json", "-n", "1")
    json.loads(log.stdout.readline())

    def call() -> bool:
        return bool(rad("call", "add", "--arg", "a=1", "--arg", "b=2").returncode == 0)

    heard = threading.Event()

    def call_on() -> None:
        while not heard.is_set():
            assert call()

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(call_on)  # the reader of events hears of calls after it has connected
        try:
            told = lines_of(events, lambda one: one["type"] == "call" and one["name"] == "add")
        finally:
            heard.set()
    calling.result()
    assert told["outcome"] == "ok"
    lines_of(log, lambda one: one["text"] == "tools/call add")
    assert rad("stop").returncode == 0
    running.wait(60)
    spawn("start")
    wait_for_upstream()
    assert lines_of(events, lambda one: one["type"] == "upstream" and one["state"] == "healthy")
    wait_for(call, 60)
    lines_of(log, lambda one: one["text"] == "tools/call add")


@pytest.mark.usefixtures("shared_gateway")
def test_a_type_of_events_that_does_not_exist_is_an_error(rad: Any) -> None:
    done = rad("events", "--type", "noise")
    assert (done.returncode, "there is no type of events 'noise'" in done.stderr) == (2, True)


def test_a_level_that_does_not_exist_is_an_error(rad: Any) -> None:
    done = rad("logs", "--level", "noise")
    assert (done.returncode, done.stderr.splitlines()[0][:54]) == (
        2,
        "error: invalid value for '--level': 'noise' is not one",
    )


@pytest.mark.usefixtures("shared_gateway")
@pytest.mark.parametrize("follow", [(), ("-f",)])
def test_an_outcome_that_does_not_exist_is_an_error(rad: Any, follow: tuple[str, ...]) -> None:
    done = rad("logs", "--outcome", "noise", *follow)
    assert (done.returncode, "there is no outcome 'noise'; there are ok, tool_error" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("changes", "problems", "sentence"),
    [
        (2, 0, "generation 3 is in force; changes: 2"),
        (0, 2, "refused; problems: 2"),
        (2, 1, "generation 3 is in force; changes: 2; a part of the gateway failed to follow them: restart it"),
    ],
)
def test_a_reload_is_told_as_it_ended(changes: int, problems: int, sentence: str) -> None:
    assert events._reload({"generation": 3, "changes": changes, "problems": problems}) == sentence


@pytest.mark.usefixtures("shared_gateway")
def test_top_prints_one_picture_into_a_pipe_and_runs_in_a_terminal_until_q(rad: Any) -> None:
    done = rad("top")
    assert done.returncode == 0, done.stderr
    assert "calculator" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    "command", [["logs"], ["logs", "-f"], ["events"], ["questions"], ["top"], ["calls", "--recent"]]
)
def test_without_a_gateway_they_say_so(rad: Any, command: list[str]) -> None:
    assert rad(*command).returncode == 3


def picture() -> Picture:
    """A gateway with trouble, whose names are hostile."""
    name = "[red]x\x1b[2J" + "y" * 100
    upstream = {"name": name, "state": "needs_login", "in_flight": 1, "queued": 0, "last_error": "bad\nnews " * 50}
    status = {"version": "1", "uptime": 5.0, "generation": 2, "sessions": 1, "in_flight": 1, "parked": 0, "calls": 7}
    call = {"method": "tools/call", "name": name, "agent": name, "upstream": name, "seconds": 0.25}
    live = {**call, "verified": False, "sent": True, "asking": False, "parked": False}
    made = Picture(
        {**status, "upstreams": [upstream] * 3}, [live] * 30, [{**call, "source": name, "kind": "open"}] * 30
    )
    failed = {**call, "at": time.time(), "outcome": "refused", "error": {"code": 1, "text": "[bold]no\nway"}}
    made.ended.extend([failed, {**failed, "outcome": "ok", "error": None}] * 20)
    return made


@pytest.mark.parametrize(("width", "height"), [(20, 10), (80, 24), (200, 60)])
def test_a_picture_fits_any_terminal_and_shows_hostile_names_as_they_are(width: int, height: int) -> None:
    console = Console(width=width, height=height, force_terminal=False, record=True, file=io.StringIO())
    console.print(drawn(picture(), height))
    lines = console.export_text().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    assert len(lines) <= height
    assert "\x1b" not in "".join(lines)
    if width == 200:
        assert "[red]x\\x1b[2J" in "".join(lines)
        assert "20 wrong" in "".join(lines)


def test_a_long_reason_is_cut_before_the_other_columns() -> None:
    made = picture()
    call = {"method": "tools/call", "name": "add", "agent": "rad@127.0.0.1", "upstream": "calculator", "seconds": 0.25}
    failed = {**call, "at": time.time(), "outcome": "unavailable", "error": {"code": 1, "text": "too busy " * 30}}
    made.ended.clear()
    made.ended.append(failed)
    made.status["upstreams"] = [{**made.status["upstreams"][0], "name": "calculator"}]
    made.in_flight, made.questions = [], []
    made.status["uptime"] = 93_784.0
    console = Console(width=80, height=24, force_terminal=False, record=True, file=io.StringIO())
    console.print(drawn(made, 24))
    text = console.export_text()
    lines = [line.split() for line in text.splitlines()]
    assert ["last", "failures", "outcome", "upstream", "agent", "reason"] in lines
    assert any(line[:5] == ["add", "unavailable", "calculator", "rad@127.0.0.1", "too"] for line in lines)
    assert any(line[:3] == ["calculator", "needs", "login"] for line in lines)
    assert "generation 2" in text


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"sent": False}, "not sent yet"),
        ({}, "sent"),
        ({"asking": True}, "asks its user"),
        ({"parked": True}, "waits for its agent"),
    ],
)
def test_calls_in_flight_look_as_in_the_list_of_calls(more: dict[str, Any], state: str) -> None:
    call = {"method": "tools/call", "name": "add", "agent": "rad@127.0.0.1", "upstream": None, "seconds": 0.25}
    live = {**call, "verified": False, "sent": True, "asking": False, "parked": False, **more}
    cells = call_cells(live)
    assert cells == ("add", "-", "rad@127.0.0.1 (not verified)", state, "0 s")
    made = picture()
    made.in_flight, made.questions = [live], []
    console = Console(width=200, height=60, force_terminal=False, record=True, file=io.StringIO())
    console.print(drawn(made, 60))
    assert "  ".join(cells) in re.sub(r" {2,}", "  ", console.export_text())


def test_the_window_forgets_old_calls() -> None:
    made = picture()
    made.ended.extendleft([{**made.ended[0], "at": time.time() - 3600}] * 5)
    assert len(made.window()) == 40
    assert len(made.ended) == 40


@pytest.mark.usefixtures("shared_gateway")
def test_keys_pause_and_end_it_in_a_terminal(spawn: Any) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 100))
    process = spawn("top", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        seen = b""
        for wanted, key in ((b"q quits", b"p"), (b"paused", b"q")):
            while wanted not in seen:
                assert select.select([ours], [], [], 60)[0]
                seen += os.read(ours, 65536)
            os.write(ours, key)
        assert process.wait(60) == 0
    finally:
        os.close(ours)
