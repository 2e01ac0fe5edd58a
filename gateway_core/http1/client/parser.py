"""Parses a streamed response with httptools (RFC 9112)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import httptools
from multidict import CIMultiDict

from gateway_core.http1.client.head import MAX_HEAD, Collected, Malformed
from gateway_core.http1.client.response import ClientResponse, ResponseHead

MAX_INFORMATIONAL: Final = 8
"""Maximum number of 1xx responses before the final one."""


class StreamParser(Collected):
    """Parses one response from its first byte to its last; its head is bounded as in `head.py`."""

    def __init__(self, begun: Callable[[ResponseHead], ClientResponse], known: ResponseHead | None) -> None:
        """`begun` gets the head and returns the response. `known`: the head, if the cache had it."""
        super().__init__()
        self.done = False
        self.more = False
        """Whether bytes followed the end of the response."""
        self.framing = 0
        """Bytes of the last `feed` that belong to no body, unless it began the response."""
        self.failure: OSError | None = None
        self._begun = begun
        self._known = known
        self._response: ClientResponse | None = None
        self._pieces: list[bytes] = []
        """Parts of the body in what `feed` is parsing."""
        self._before = 0
        self._informational = 0

    def feed(self, data: bytes) -> None:
        """Parse received bytes, then set `done`, `more`, `framing` and `failure`."""
        began = self.head is None
        if began:
            self._before += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self.failure = cause if isinstance(cause, OSError) else Malformed("its answer is not HTTP")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.failure = None if self.done else Malformed("its answer is not HTTP")
            self.more = True
        if self.head is None and self._before > MAX_HEAD * 2:
            self.failure = Malformed("the head of its answer is too large")
        pieces, self._pieces = self._pieces, []
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.framing = 0 if began else len(data) - len(body)
        if body and self._response is not None:
            self._response.feed(body)

    def on_message_begin(self) -> None:
        self.more = self.more or self.done

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._known is None or self.head is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.done:
            return
        if self._known is not None:
            self.head = self._known
            self._response = self._begun(self.head)
            return
        if self.parser.get_status_code() < 200:
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise Malformed("it sent too many informational answers")
            self.headers = CIMultiDict()
            return
        super().on_headers_complete()
        assert self.head is not None
        self._response = self._begun(self.head)

    def on_body(self, body: bytes) -> None:
        if self._response is not None and not self.done:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self.head is not None:
            self.done = True
