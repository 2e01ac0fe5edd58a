"""The HTTP+SSE transport of revision 2024-11-05, used only by legacy servers.

Responses arrive on one event stream; messages are sent by POST to the **endpoint** in the stream's first event.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from yarl import URL

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown, Permanent, RefusedUpstream
from gateway_core.http1.client import field_names
from gateway_core.http1.client.response import ClientResponse
from gateway_core.http1.media_types import EVENT_STREAM, JSON
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.messages.noise import Noisy
from gateway_core.upstream.messages.sends import AT_ONCE, SEND_TIMEOUT
from gateway_core.upstream.network.cookies import Cookies
from gateway_core.upstream.pending import Pending
from gateway_core.upstream.transports.answers import MAX_ERROR_BODY, failure_in, follow, read_body, reply_to
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.duplex import DuplexConnection
from gateway_core.upstream.transports.events import Event, EventParser, EventTooLarge
from gateway_core.upstream.transports.session_loss import speaks_of_session

ENDPOINT_SHARE: Final = 0.8
"""Share of `start_timeout` within which the stream must name its endpoint."""
MAX_ENDPOINT: Final = 4096
"""Maximum length of the endpoint's URL in bytes."""
_GONE: Final = frozenset({404, 410})


class SseConnection(DuplexConnection):
    """A connection over one event stream of a server and the POSTs that belong to it."""

    modern_possible = False

    def __init__(self, config: UpstreamConfig, limits: LimitsConfig, context: ClientContext, http: HttpClient) -> None:
        super().__init__(config, limits, context)
        self._http = http
        self._cookies = Cookies()
        self._endpoint: asyncio.Future[URL] | None = None
        self._stream: ClientResponse | None = None
        self._reader: asyncio.Task[None] | None = None
        self._posts: set[asyncio.Task[None]] = set()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._stream = await self._open_stream()
        self._endpoint = loop.create_future()
        self._reader = loop.create_task(self._read(self._stream, self._endpoint))
        seconds = ENDPOINT_SHARE * self._config.start_timeout
        try:
            async with asyncio.timeout(seconds):
                await self._endpoint
        except TimeoutError:
            raise NotSent(f"the event stream named no endpoint within {seconds:g} s") from None

    async def _open_stream(self) -> ClientResponse:
        """The response to the GET. Raises `NotSent` for every failure: a GET executes nothing."""
        try:
            response = await self._http.open(
                "GET", {field_names.ACCEPT: EVENT_STREAM, field_names.CACHE_CONTROL: "no-store"}, cookies=self._cookies
            )
        except (OutcomeUnknown, RefusedUpstream) as error:
            raise NotSent(error.reason) from None
        if response.status == 200 and response.content_type == EVENT_STREAM:
            return response
        response.close()
        if response.status == 200:
            raise NotSent("the server answered with something that is not an event stream: no HTTP+SSE server?")
        kind = Permanent if response.status in {401, 403} else NotSent
        raise kind(f"the server answered the request for its event stream with HTTP {response.status}")

    async def _read(self, stream: ClientResponse, endpoint: asyncio.Future[URL]) -> None:
        parser = EventParser(self._limits.response_body, self._context.account)
        reason = "ended its event stream"
        try:
            await follow(stream, parser, lambda event: self._take(event, endpoint), self.unexpected)
        except Noisy as noisy:
            reason = noisy.reason
        except EventTooLarge as error:
            reason = str(error)
        except OSError:
            reason = "broke off its event stream"
        except Exception as error:  # noqa: BLE001 - after any error, nothing reads the stream
            self._failed_at(error)
            reason = "sent an event stream that the gateway failed to read"
        finally:
            if not endpoint.done():
                endpoint.set_exception(NotSent(f"the server {reason} before it named its endpoint"))
                endpoint.exception()  # `_connect` may have been cancelled; avoids a warning
            self._lost(reason)

    def _take(self, event: Event, endpoint: asyncio.Future[URL]) -> bool:
        """Handle one event. Returns False, because none ends the stream."""
        if event.event == "message":
            if event.data:
                self._receive(event.data)
        elif event.event != "endpoint" or endpoint.done():
            self.unexpected.note("unknown event")
        else:
            try:
                endpoint.set_result(self._checked_endpoint(event.data))
            except NotSent as error:
                endpoint.set_exception(error)
        return False

    def _checked_endpoint(self, data: bytes) -> URL:
        """The endpoint; must have the origin of the configured URL, as it gets credentials and calls."""
        base = self._http.url
        try:
            if len(data) > MAX_ENDPOINT:
                raise ValueError
            url = base.join(URL(data.decode("ascii"), encoded=True)).with_fragment(None)
            same = url.origin() == base.origin() and url.raw_user in (None, base.raw_user)
        except ValueError:
            raise NotSent("the event stream named an endpoint that is no URL") from None
        if not same:
            raise NotSent(f"the event stream named an endpoint of another origin than {base.origin()}")
        return url

    async def _transmit(self, data: bytes, pending: Pending | None = None) -> None:
        if self._endpoint is None or not self._endpoint.done():
            raise NotSent("the event stream is not open")
        endpoint = self._endpoint.result()
        if pending is None:
            await self._post(endpoint, data, None)
            return
        # Some servers answer on the stream first and finish the POST later.
        posting = asyncio.get_running_loop().create_task(self._post(endpoint, data, pending))
        self._posts.add(posting)
        posting.add_done_callback(self._post_ended)
        answered = asyncio.get_running_loop().create_task(pending.wait())
        waiting: set[asyncio.Future[Any]] = {posting, answered}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            posting.cancel()
            raise
        finally:
            answered.cancel()
        if pending.done:
            grace = SEND_TIMEOUT if len(self._posts) <= AT_ONCE else 0
            asyncio.get_running_loop().call_later(grace, posting.cancel)
        else:
            await posting

    def _post_ended(self, task: asyncio.Task[None]) -> None:
        self._posts.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved, if the request was answered meanwhile

    async def _post(self, endpoint: URL, data: bytes, pending: Pending | None) -> None:
        """POST one message and check that the server accepted it. Raises `DeliveryError`."""
        headers: dict[str, str] = {field_names.CONTENT_TYPE: JSON, field_names.ACCEPT: JSON}
        before_send = pending.mark_sent if pending is not None else None
        response = await self._http.open(
            "POST", headers, body=data, url=endpoint, before_send=before_send, cookies=self._cookies
        )
        try:
            if 200 <= response.status <= 299:
                with contextlib.suppress(OutcomeUnknown):  # accepted, even if the body breaks off
                    await read_body(response, MAX_ERROR_BODY)
                return
            if response.status in _GONE:
                self._lost(f"has forgotten the session (HTTP {response.status})")
            failure = await failure_in(response, pending.number if pending else None, in_session=True)
            if failure.error is None and speaks_of_session(failure.text):
                self._lost(f"does not know the session any more (HTTP {response.status})")
            reply = reply_to(response, failure)
            if pending is not None and not pending.done:
                pending.complete(reply)
        finally:
            response.close()

    async def _release(self) -> None:
        tasks = [*self._posts, *([self._reader] if self._reader else [])]
        for task in tasks:
            task.cancel()
        if self._stream is not None:
            self._stream.close()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
