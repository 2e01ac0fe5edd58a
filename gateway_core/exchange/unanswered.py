"""Requests that were abandoned after they were sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MAX_UNANSWERED: Final = 1024
"""Maximum number of requests of one connection whose late answer is recognized."""


class Unanswered:
    """A request that was cancelled after it was sent, so that its server may still work on it.

    It is over when the server answers it after all, or when its connection is lost. A server that obeys the
    cancellation answers nothing: the request then never counts as over.
    """

    __slots__ = ("_callbacks", "over")

    def __init__(self) -> None:
        self.over = False
        self._callbacks: list[Callable[[bool], object]] = []

    def add_callback(self, callback: Callable[[bool], object]) -> None:
        """Call `callback` once it is over, with whether the server has answered. It must not be over yet."""
        self._callbacks.append(callback)

    def end(self, *, answered: bool) -> None:
        """Record that it is over, and call the callbacks."""
        self.over = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(answered)


class UnansweredRequests:
    """The unanswered requests of one connection, by their ids. Above `MAX_UNANSWERED`, the oldest is forgotten."""

    def __init__(self) -> None:
        self._requests: dict[int, Unanswered] = {}

    def add(self, number: int, request: Unanswered | None) -> None:
        """Remember a request until it is over; no effect for None."""
        if request is not None:
            self._requests[number] = request
            if len(self._requests) > MAX_UNANSWERED:
                del self._requests[next(iter(self._requests))]

    def answered(self, number: int) -> None:
        """The server has answered a request, perhaps one of these."""
        request = self._requests.pop(number, None)
        if request is not None:
            request.end(answered=True)

    def lost(self) -> None:
        """The connection is lost."""
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.end(answered=False)
