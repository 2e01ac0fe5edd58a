"""The client of the control plane: what may answer it, and that it ends in bounded time."""

import socket
import threading

import pytest

from gateway_core.cli import client
from gateway_core.cli.instance import Instance
from gateway_core.cli.report import Failed
from gateway_core.cli.running import NotAnswering
from gateway_core.errors import ConfigError


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
                for made.sent, piece in enumerate(pieces):
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
        host, port = listener.getsockname()
        return Instance(1, "127.0.0.1", 3000, "secret-token", 0.0, control_host=host, control_port=port)

    yield made
    stop.set()
    listener.close()
    for thread in threads:
        thread.join(5)


def test_an_answer_in_pieces(answering):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
    assert client.fetch(answering([head[:20], head[20:], b'{"a"', b":1}"], pause=0.02, hang_up=False), "status") == {
        "a": 1
    }


def test_a_chunked_answer(answering):
    answer = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n0\r\n\r\n'
    assert client.fetch(answering([answer]), "status") == {"a": 1}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed connection without response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP as expected"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP status 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "not JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "not a JSON object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "not HTTP as expected"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "HTTP status 101"),
    ],
)
def test_a_stranger_on_the_port(answering, answer, why):
    with pytest.raises(NotAnswering, match=why) as caught:
        client.fetch(answering([answer]), "status")
    assert "secret-token" not in str(caught.value)


def test_what_does_not_exist_is_named_by_the_control_plane(answering):
    body = b'{"error":"no profile x"}'
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with pytest.raises(Failed, match="no profile x"):
        client.fetch(answering([answer]), "tools?profile=x")


def test_an_answer_that_never_ends(answering, monkeypatch):
    monkeypatch.setattr(client, "MAX_ANSWER", 100_000)
    pieces = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"2710\r\n" + b" " * 10_000 + b"\r\n"] * 100]
    with pytest.raises(NotAnswering, match="bytes"):
        client.fetch(answering(pieces), "status")


@pytest.mark.parametrize("dripping", ["head", "body"])
def test_an_answer_that_only_drips_ends_with_the_time_for_all_of_it(answering, monkeypatch, dripping):
    monkeypatch.setattr(client, "TIMEOUT", 0.5)
    head = b"HTTP/1.1 200 OK\r\n"
    pieces = [head, *[b"X: y\r\n"] * 90] if dripping == "head" else [head + b"Content-Length: 99\r\n\r\n", *[b" "] * 98]
    instance = answering(pieces, pause=0.2)
    with pytest.raises(NotAnswering, match=r"no answer within 0\.5 s"):
        client.fetch(instance, "status")
    assert answering.sent < 90


def test_a_port_without_a_listener_is_named(answering):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        instance = Instance(
            7, "127.0.0.1", 3000, "t", 0.0, control_host="127.0.0.1", control_port=bound.getsockname()[1]
        )
        with pytest.raises(NotAnswering, match=rf"pid 7\) but not answering at {instance.control_address}: .*refused"):
            client.fetch(instance, "status")


@pytest.mark.parametrize(
    ("head", "body", "raised"),
    [
        ("422 Unprocessable Entity", b'{"problems":[{"text":"a.toml:1: wrong"}]}', ConfigError),
        ("409 Conflict", b'{"error":"it is stopping"}', Failed),
        ("404 Not Found", b'{"error":"there is no such upstream"}', Failed),
        ("413 Content Too Large", b'{"error":"too large"}', Failed),
        ("401 Unauthorized", b'{"error":"a token is required"}', NotAnswering),
        ("503 Service Unavailable", b'{"error":"one at a time"}', Failed),
        ("500 Internal Server Error", b'{"error":"failed"}', NotAnswering),
        ("200 OK", b"[1]", NotAnswering),
    ],
)
def test_an_answer_about_the_file_that_is_no_success(answering, head, body, raised):
    answer = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)
    with pytest.raises(raised):
        client.send(answering([answer]), "POST", "reload")
