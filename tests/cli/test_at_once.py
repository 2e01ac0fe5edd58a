"""`start`, `status` and `stop` where they are read by hand, and what may answer `status`."""

import socket
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import typer

from gateway_core.cli import app, at_once, probe
from gateway_core.cli.at_once import command_of
from gateway_core.cli.control import Instance
from gateway_core.cli.start import start


def begun(**options):
    return start, None, {"detach": False, "stdio": False, **options}


def read(line):
    command = command_of(line.split())
    if command is None:
        return None
    assert isinstance(command, partial)
    return command.func, *command.args, command.keywords


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("mcp proxy status", (probe.status, None, {"as_json": False})),
        ("mcp proxy status --json", (probe.status, None, {"as_json": True})),
        ("mcp proxy status --config a.toml --json", (probe.status, Path("a.toml"), {"as_json": True})),
        ("mcp proxy status --json --config a.toml", (probe.status, Path("a.toml"), {"as_json": True})),
        ("mcp proxy start", begun()),
        ("mcp proxy start --detach", begun(detach=True)),
        ("mcp proxy start --stdio", begun(stdio=True)),
        ("mcp proxy start --ready-fd 7", begun(ready_fd=7)),
        ("mcp proxy stop", (probe.stop, None, {"now": False})),
        ("mcp proxy stop --now --config a.toml", (probe.stop, Path("a.toml"), {"now": True})),
    ],
)
def test_what_is_read_by_hand(line, meant):
    assert read(line) == meant


@pytest.mark.parametrize(
    "line",
    [
        "",
        "mcp proxy",
        "mcp proxy check",
        "mcp proxy start --now",
        "mcp proxy start --ready-fd",
        "mcp proxy start --ready-fd x",
        "mcp proxy status --ready-fd 7",
        "--debug mcp proxy status",
        "mcp --help proxy status",
        "mcp proxy status --help",
        "mcp proxy status --now",
        "mcp proxy stop --json",
        "mcp proxy status --json --json",
        "mcp proxy status --config",
        "mcp proxy status --config --json",
        "mcp proxy status --config a --config b",
        "mcp proxy status --config=a.toml",
        "mcp proxy status a.toml",
        "mcp proxy stop -- --now",
    ],
)
def test_everything_else_is_left_to_the_command_line_proper(line):
    assert read(line) is None


@pytest.mark.parametrize("name", at_once._FLAGS)
def test_the_options_read_by_hand_are_those_of_the_command_line_proper(name):
    command = typer.main.get_command(app.app).commands["mcp"].commands["proxy"].commands[name]
    options = {option: parameter.name for parameter in command.params for option in parameter.opts}
    known = {**at_once._FLAGS[name], "--config": "config", **({"--ready-fd": "ready_fd"} if name == "start" else {})}
    assert options == known


def test_an_empty_name_of_a_file_is_left_to_it_too():
    assert command_of(["mcp", "proxy", "status", "--config", ""]) is None


@pytest.fixture
def answering():
    """An instance whose port answers with the given pieces, and then waits or hangs up."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def made(pieces, *, pause=0.0, hang_up=True):
        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        return
                    if stop.wait(pause):
                        return
                if not hang_up:
                    stop.wait(20)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        threads.append(thread)
        return Instance(pid=1, host="127.0.0.1", port=listener.getsockname()[1], token="secret-token", started=0.0)

    yield made
    stop.set()
    listener.close()
    for thread in threads:
        thread.join(5)


def test_an_answer_in_pieces(answering):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
    assert probe.fetch(answering([head[:20], head[20:], b'{"a"', b":1}"], pause=0.02, hang_up=False), "status") == {
        "a": 1
    }


def test_a_chunked_answer(answering):
    answer = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n0\r\n\r\n'
    assert probe.fetch(answering([answer]), "status") == {"a": 1}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP as expected"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP status 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "no JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "no JSON object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "closed the connection without an answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "not HTTP as expected"),
    ],
)
def test_a_stranger_on_the_port(answering, answer, why):
    with pytest.raises(probe.NotAnswering, match=why) as caught:
        probe.fetch(answering([answer]), "status")
    assert "secret-token" not in str(caught.value)


def test_an_answer_that_never_ends(answering, monkeypatch):
    monkeypatch.setattr(probe, "MAX_ANSWER", 100_000)
    pieces = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"2710\r\n" + b" " * 10_000 + b"\r\n"] * 100]
    with pytest.raises(probe.NotAnswering, match="bytes"):
        probe.fetch(answering(pieces), "status")


def test_an_answer_that_only_drips(answering, monkeypatch):
    monkeypatch.setattr(probe, "TIMEOUT", 0.5)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    begun = time.monotonic()
    with pytest.raises(probe.NotAnswering, match=r"no answer within 0\.5 s"):
        probe.fetch(answering([head, *[b" "] * 100], pause=0.1), "status")
    assert time.monotonic() - begun < 5
