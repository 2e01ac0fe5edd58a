"""Requests that were given up after they were sent."""

from __future__ import annotations

from collections.abc import Callable


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
