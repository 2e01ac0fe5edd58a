"""The client of the control plane.

It uses the standard library's HTTP client, which loads much faster than aiohttp.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from typing import Any, Final

from gateway_core.cli.hints import command
from gateway_core.cli.instance import Instance
from gateway_core.cli.locate import UsageError
from gateway_core.cli.report import Failed
from gateway_core.cli.running import NotAnswering
from gateway_core.errors import ConfigError
from gateway_core.http1.hosts import connectable
from gateway_core.http1.media_types import JSON

TIMEOUT: Final = 2.0
"""Seconds from connecting to the last byte of the response."""
RELOAD_TIMEOUT: Final = 150.0
"""The same for a reload, in which plugins start and upstreams connect."""
SILENCE: Final = 45.0
"""Seconds without a byte after which an event stream counts as lost: it sends a comment every 15 s."""
MAX_ANSWER: Final = 16 * 1024 * 1024


def fetch(instance: Instance, page: str) -> dict[str, Any]:
    """What GET `/admin/{page}` of the control plane answers within `TIMEOUT` seconds. Raises as `send`."""
    return send(instance, "GET", page)


def send(instance: Instance, verb: str, page: str, value: Any = None, timeout: float | None = None) -> dict[str, Any]:
    """The answer to a request to `/admin/{page}`, with `value` as its JSON body unless it is None.

    `timeout`: seconds, in place of `TIMEOUT`. Raises `NotAnswering`, `Failed` with the reason if the gateway refuses,
    `UsageError` if it does not understand, and `ConfigError` with the problems of a configuration.
    """
    body = None if value is None else json.dumps(value).encode()
    status, answer = _answer(instance, verb, page, timeout, body)
    if status != HTTPStatus.OK or len(answer) > MAX_ANSWER:
        raise _refusal(instance, status, answer)
    return _object(instance, answer)


def messages(instance: Instance, page: str, last: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The messages of the event stream `/admin/{page}`, each with its id, until it ends.

    `last`: the id of the last message of an earlier stream. Raises as `send`, `NotAnswering` also when the gateway
    falls silent.
    """
    host = connectable(instance.control_host)
    headers = {"Authorization": f"Bearer {instance.token}", **({"Last-Event-ID": last} if last else {})}
    with closing(http.client.HTTPConnection(host, instance.control_port, timeout=SILENCE)) as connection:
        try:
            connection.request("GET", f"/admin/{page}", headers=headers)
            answer = connection.getresponse()
            if answer.status != HTTPStatus.OK:
                raise _refusal(instance, answer.status, answer.read(MAX_ANSWER))
            yield from _messages(answer, instance)
        except (OSError, http.client.HTTPException) as error:
            raise _not_answering(instance, str(error) or type(error).__name__) from error


def _messages(answer: http.client.HTTPResponse, instance: Instance) -> Iterator[tuple[str, dict[str, Any]]]:
    found: dict[str, bytes] = {}
    while line := answer.readline(MAX_ANSWER):
        key, _, value = line.rstrip(b"\r\n").partition(b": ")
        if key:
            found[key.decode(errors="replace")] = value
        elif "data" in found:
            yield found.get("id", b"").decode(errors="replace"), _object(instance, found["data"])
            found = {}


def _answer(
    instance: Instance, verb: str, page: str, timeout: float | None = None, body: bytes | None = None
) -> tuple[int, bytes]:
    """Status and body of the response. Raises `NotAnswering`. `timeout`: in place of `TIMEOUT`. `body`: JSON."""
    timeout = TIMEOUT if timeout is None else timeout
    try:
        return _request(instance, verb, f"/admin/{page}", timeout, body)
    except TimeoutError as error:
        raise _not_answering(instance, f"no answer within {timeout:g} s") from error
    except OSError as error:  # includes RemoteDisconnected
        raise _not_answering(instance, str(error) or type(error).__name__) from error
    except http.client.HTTPException as error:
        raise _not_answering(instance, f"its answer is not HTTP as expected ({type(error).__name__})") from error


def _request(instance: Instance, verb: str, path: str, timeout: float, content: bytes | None) -> tuple[int, bytes]:
    """Status and body of the response; a body that is too large is cut to `MAX_ANSWER` + 1 bytes.

    Raises `TimeoutError`, other `OSError`s, and `HTTPException`.
    """
    deadline = time.monotonic() + timeout
    host = connectable(instance.control_host)
    with closing(http.client.HTTPConnection(host, instance.control_port, timeout=timeout)) as connection:
        connection.connect()
        with _ended_at(connection.sock, deadline) as late:
            try:
                headers = {"Authorization": f"Bearer {instance.token}"}
                if content is not None:
                    headers["Content-Type"] = JSON
                connection.request(verb, path, content, headers)
                answer = connection.getresponse()
                body = answer.read(MAX_ANSWER + 1)
            except (OSError, http.client.HTTPException):
                if late.is_set():
                    raise TimeoutError from None
                raise
        if late.is_set():
            raise TimeoutError
        if len(body) <= MAX_ANSWER and not answer.isclosed():
            raise http.client.IncompleteRead(body)
        return answer.status, body


def _refusal(instance: Instance, status: int, body: bytes) -> Exception:
    """The error for an answer that is no success, in the words of the control plane if it gives a reason.

    After 401 the token of the pid file is that of another process.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    match found:
        case {"problems": [*problems]} if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return ConfigError([str(one["text"]) for one in problems])
        case {"error": str(reason)} if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return UsageError(reason)
        case {"error": str(reason)} if status != HTTPStatus.UNAUTHORIZED and status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Failed(reason)
        case {"error": str(reason)} if status == HTTPStatus.SERVICE_UNAVAILABLE:
            return Failed(reason)
    return _not_answering(instance, f"HTTP status {status}, {len(body)} bytes")


def _object(instance: Instance, body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise _not_answering(instance, "the answer is not JSON") from None
    if not isinstance(value, dict):
        raise _not_answering(instance, "the answer is not a JSON object")
    return value


@contextmanager
def _ended_at(wire: socket.socket, deadline: float) -> Iterator[threading.Event]:
    """Shut `wire` down and set the event at `deadline`: a socket timeout only limits single operations."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()


def _not_answering(instance: Instance, reason: str) -> NotAnswering:
    return NotAnswering(
        f"running (pid {instance.pid}) but not answering at {instance.control_address}: {reason}\n"
        f"  it may still be starting, or be stuck; to end it: {command('stop --now')}"
    )
