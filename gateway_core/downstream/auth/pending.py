"""The response to a request whose credentials are being looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway_core.downstream.auth.memory import Verdict
from gateway_core.downstream.http_errors import response_of
from gateway_core.http1.application import PendingResponse
from gateway_core.http1.head import HttpError
from gateway_core.http1.response import Response


class PendingAuthentication:
    """Waits for the caller, then for the response that the caller gets."""

    __slots__ = ("_found", "_lost", "running")

    def __init__(self, finding: Awaitable[Verdict], serve: Callable[[Verdict], Response | PendingResponse]) -> None:
        self._found: Response | PendingResponse | None = None
        self._lost = False
        """Whether the connection was lost before the caller was known."""
        self.running = asyncio.get_running_loop().create_task(self._run(finding, serve))

    async def _run(self, finding: Awaitable[Verdict], serve: Callable[[Verdict], Response | PendingResponse]) -> None:
        try:
            verdict = await finding
            if self._lost:  # in the turn of the loop in which the verdict arrived
                return
            found = self._found = serve(verdict)
        except HttpError as error:
            self._found = response_of(error)
            return
        if isinstance(found, Response):
            return
        complete = asyncio.Event()
        found.running.add_done_callback(lambda _: complete.set())
        await complete.wait()

    def response(self) -> Response | asyncio.Task[Any] | None:
        """The response of the caller's request. Raises what `finding` or the request raised."""
        self.running.result()
        found = self._found
        return found if isinstance(found, Response) or found is None else found.response()

    @property
    def found(self) -> Response | PendingResponse | None:
        """The response to the request, once the caller is known."""
        return self._found

    def poll(self, now: float) -> None:
        """Pass the poll on to the request, once the caller is known."""
        if self._found is not None and not isinstance(self._found, Response):
            self._found.poll(now)

    def lost(self) -> None:
        """Handle the loss of the connection: stop waiting, or pass it on to the request."""
        if self._found is None:
            self._lost = True
            asyncio.get_running_loop().call_soon(self.running.cancel)
        elif not isinstance(self._found, Response):
            self._found.lost()
