"""The response to a request whose credentials are being looked at."""

import asyncio
from typing import Any

import pytest

from gateway_core.downstream.auth.caller import Caller, caller_at
from gateway_core.downstream.auth.pending import PendingAuthentication
from gateway_core.http1.head import HttpError
from gateway_core.http1.response import Response

FINE = Response(b"fine")


class Slow:
    """A response that comes later."""

    def __init__(self) -> None:
        self.running: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.polled: list[float] = []
        self.is_lost = False

    def response(self) -> Response:
        return FINE

    def poll(self, now: float) -> None:
        self.polled.append(now)

    def lost(self) -> None:
        self.is_lost = True


async def at_home() -> Caller:
    await asyncio.sleep(0)
    return caller_at("127.0.0.1")


async def nobody() -> Caller:
    raise HttpError(401, "authentication is required", headers={"WWW-Authenticate": "Bearer"})


async def broken() -> Caller:
    raise ZeroDivisionError


def serve(found: Any) -> Any:
    return lambda caller: found


async def test_the_caller_gets_the_response_at_once_or_later() -> None:
    pending = PendingAuthentication(at_home(), serve(FINE))
    await pending.running
    assert pending.response() is FINE
    slow = Slow()
    pending = PendingAuthentication(at_home(), serve(slow))
    pending.poll(1.0)
    await asyncio.sleep(0.01)
    pending.poll(2.0)
    assert (slow.polled, pending.running.done()) == ([2.0], False)
    slow.running.set_result(None)
    await pending.running
    assert pending.response() is FINE


async def test_a_refusal_is_a_response() -> None:
    pending = PendingAuthentication(nobody(), serve(FINE))
    await pending.running
    response: Any = pending.response()
    assert (response.status, response.headers) == (401, {"WWW-Authenticate": "Bearer"})


async def test_a_bug_is_raised() -> None:
    pending = PendingAuthentication(broken(), serve(FINE))
    await asyncio.wait([pending.running])
    with pytest.raises(ZeroDivisionError):
        pending.response()


async def test_a_lost_connection_stops_the_wait_or_reaches_the_request() -> None:
    pending = PendingAuthentication(asyncio.Event().wait(), serve(FINE))  # type: ignore[arg-type]
    pending.lost()
    await asyncio.wait([pending.running])
    assert pending.running.cancelled()
    slow = Slow()
    pending = PendingAuthentication(at_home(), serve(slow))
    await asyncio.sleep(0.01)
    pending.lost()
    assert slow.is_lost
    slow.running.set_result(None)
    await pending.running


async def test_a_connection_lost_as_the_verdict_arrives_starts_no_request() -> None:
    verdict: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    served: list[Any] = []
    pending = PendingAuthentication(verdict, lambda found: served.append(found) or Slow())  # type: ignore[func-returns-value]
    await asyncio.sleep(0)
    verdict.set_result(caller_at("127.0.0.1"))
    pending.lost()
    await asyncio.wait([pending.running])
    assert served == []
