"""Parses the requests of one connection without doing I/O: heads, and bodies within a limit."""

from __future__ import annotations

from collections.abc import Callable

from gateway_core.http1.body import BodyReader, ChunkedBody, LengthBody, too_large
from gateway_core.http1.head import HEAD_END, RequestHead, Route, check_partial, read_head, read_next_head


class RequestReader:
    """Call `head` and `body` alternately; each returns None until `feed` has added enough bytes."""

    __slots__ = ("_body", "_checked", "_grant", "_last", "_owner", "_route", "buffer", "claimed")

    def __init__(self, grant: Callable[[str, int], None]) -> None:
        """`grant` gets the owner and the bytes of a body that arrives in pieces; see `Application.claim`."""
        self._grant = grant
        self._owner = ""
        """The owner that `claimed` counts for."""
        self.claimed = 0
        """Bytes of the last body that were granted."""
        self.buffer = b""
        """Bytes that were fed and not parsed yet."""
        self._checked = 0
        """Bytes of the buffer already searched for the end of a head."""
        self._body: BodyReader | None = None
        """Reads a body that was not complete together with its head."""
        self._last: RequestHead | None = None
        """The previous head, whose lines the next head probably repeats."""
        self._route: Route | None = None
        """The route of the last request, if its head was dropped."""

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self.buffer = self.buffer + data if self.buffer else data

    def head(self) -> RequestHead | None:
        """Read a head; None while it is incomplete. Raises `HttpError`, after which nothing more can be read."""
        data = self.buffer
        end = data.find(HEAD_END, self._checked) + 4
        if end < 4:
            if data:
                check_partial(data, self._checked)
                self._checked = max(0, len(data) - 3)
            return None
        last = self._last
        head = self._last = read_head(data[:end]) if last is None else read_next_head(data[:end], last)
        self.buffer = data[end:]
        self._checked = 0
        return head

    def body(self, head: RequestHead, limit: int) -> bytes | None:
        """Read the body after `head`; None while it is incomplete. `limit`: bytes.

        Raises `HttpError`, after which nothing more can be read.
        """
        data, length = self.buffer, head.length
        if self._body is None:
            if head.chunked:
                self._body = ChunkedBody(limit)
            elif length > limit:
                raise too_large(limit)
            elif len(data) >= length:
                self.buffer = data[length:]
                return data[:length] if self.buffer else data
            else:
                self._body = LengthBody(length)
        self.buffer = self._body.feed(data)
        if not self._body.complete:
            self._claim(self._body.known)
            return None
        body, self._body = self._body.body(), None
        return body

    @property
    def behind(self) -> bool:
        """Whether the rest of the buffer belongs to an incomplete body; `body` reads it in slices."""
        return self._body is not None and bool(self.buffer)

    @property
    def owner(self) -> str:
        """Whom the last request counts for; see `Route.owner`."""
        route = self._route if self._last is None else self._last.route
        return "" if route is None else route.owner

    def _claim(self, size: int) -> None:
        """Claim the bytes of an incomplete body as they become known. Raises `HttpError` if they are not granted."""
        if size > self.claimed:
            if not self.claimed:
                self._owner = self.owner
            self._grant(self._owner, size - self.claimed)
            self.claimed = size

    def give_back(self) -> None:
        """Give the claimed bytes back: the request of the last body is over."""
        claimed, self.claimed = self.claimed, 0
        if claimed:
            self._grant(self._owner, -claimed)

    def skip(self, head: RequestHead) -> bool:
        """Skip the body after `head` if it is complete; otherwise return False, and nothing more can be read."""
        if self._body is not None or head.chunked or len(self.buffer) < head.length:
            return False
        self.buffer = self.buffer[head.length :]
        return True

    def restore(self, data: bytes) -> None:
        """Put a request that was read back in front of what was not read yet."""
        self.buffer, self._checked = data + self.buffer, 0

    def forget(self) -> None:
        """Drop the cached head."""
        if self._last is not None:
            self._route, self._last = self._last.route, None

    def drop(self) -> None:
        """Drop all buffered data, and give the claimed bytes back. Nothing can be read afterwards."""
        self.give_back()
        self._grant = _nothing  # the connection, which has this reader, is freed without the garbage collector
        self.buffer = b""
        self._body = self._last = self._route = None


def _nothing(_: str, __: int) -> None:
    """Grant no bytes."""
