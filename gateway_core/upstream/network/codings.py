"""Decodes response bodies in the content codings gzip and deflate (RFC 9110, section 8.4.1).

The gateway asks for `identity`. Some servers and reverse proxies compress all the same. Decoding is incremental, so a
reader that counts decoded bytes bounds the memory that a small body can take.
"""

from __future__ import annotations

import zlib
from typing import Final

from multidict import CIMultiDict

from gateway_core.http1.client.head import Malformed
from gateway_core.http1.client.response import ClientResponse, ResponseHead

PIECE: Final = 64 * 1024
"""Maximum bytes of one decoded piece."""
MAX_CODINGS: Final = 2
"""Maximum number of codings that are applied to one body."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_READABLE: Final = frozenset({"gzip", "x-gzip", "deflate"})
_UNREADABLE: Final = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})
"""Codings that the gateway cannot decode. Other unknown values, such as `utf-8`, are ignored, as the SDK clients do."""


class UnknownCoding(Exception):
    """The body has a content coding that the gateway cannot decode."""


def decoded(response: ClientResponse) -> ClientResponse:
    """The same response with its body decoded. Raises `UnknownCoding`."""
    given = ",".join(response.headers.getall("Content-Encoding", ())).split(",")
    codings = [coding for item in given if (coding := item.strip().lower()) in _READABLE | _UNREADABLE]
    unknown = next((coding for coding in codings if coding in _UNREADABLE), None)
    if unknown is not None:
        raise UnknownCoding(f"it answered in the content coding {unknown}, which was not asked for")
    if len(codings) > MAX_CODINGS:
        raise UnknownCoding(f"it answered in {len(codings)} content codings, which were not asked for")
    if not codings:
        return response
    head = response.head
    plain = ResponseHead(head.status, _without_coding(head), length=None, reusable=head.reusable)
    return DecodedResponse(plain, None, inner=response, decoders=[_Decoder(coding) for coding in reversed(codings)])


def _without_coding(head: ResponseHead) -> CIMultiDict[str]:
    headers = head.headers.copy()
    for name in ("Content-Encoding", "Content-Length"):
        headers.popall(name, None)
    return headers


class DecodedResponse(ClientResponse, kw_only=True):
    """A response whose body is decoded as it is read."""

    inner: ClientResponse
    decoders: list[_Decoder]
    """In the order in which they apply."""
    _over: bool = False

    @property
    def at_eof(self) -> bool:
        """Whether the body has ended and was read."""
        return self._over and self.inner.at_eof

    def whole(self) -> bytes | None:
        """None: only `read` bounds the size of a decoded body."""
        return None

    async def read(self) -> bytes | None:
        """The next piece, at most `PIECE` bytes; None at the end, even an early one. Raises `OSError` if malformed."""
        while not self._over:
            piece = self._next()
            if piece:
                return piece
            chunk = await self.inner.read()
            if chunk is not None:
                self.decoders[0].add(chunk)
                continue
            # A truncated body is decoded up to its end: the JSON shows whether something is missing.
            self._over = True
        return None

    def _next(self) -> bytes:
        """A decoded piece of what has arrived; empty if more has to arrive."""
        first, *others = self.decoders
        if not others:
            return first.take()
        while not (piece := others[0].take()):
            raw = first.take()
            if not raw:
                return b""
            others[0].add(raw)
        return piece

    def close(self) -> None:
        """Release the response. Closes the connection if the body has not ended."""
        self._over = True
        self.inner.close()

    def spend(self) -> None:
        """Release the response; the connection is reused if the body soon ends."""
        self._over = True
        self.inner.spend()


class _Decoder:
    """Decodes one coding, in pieces of at most `PIECE` bytes."""

    def __init__(self, coding: str) -> None:
        self._gzip = coding != "deflate"
        self._stream = zlib.decompressobj(_GZIP) if self._gzip else None
        self._input = b""
        self._started = False

    def add(self, data: bytes) -> None:
        """Add coded bytes. The caller has taken everything before."""
        self._input += data

    def take(self) -> bytes:
        """The next piece of decoded bytes; empty if more input is needed. Raises `Malformed`."""
        while self._input:
            self._started = True
            if self._stream is None:
                self._stream = zlib.decompressobj(zlib.MAX_WBITS if _has_zlib_header(self._input) else -zlib.MAX_WBITS)
            if self._stream.eof:
                if not self._gzip or not self._input.startswith(b"\x1f"):
                    self._input = b""  # padding after the end
                    break
                self._stream = zlib.decompressobj(_GZIP)
            try:
                piece = self._stream.decompress(self._input, PIECE)
            except zlib.error:
                raise Malformed("its compressed answer is malformed") from None
            self._input = self._stream.unconsumed_tail or self._stream.unused_data
            if piece:
                return piece
        return b""


def _has_zlib_header(data: bytes) -> bool:
    """Whether deflate data has the header of RFC 1950; some servers leave it out."""
    return data[0] & 0x0F == 8 and (len(data) < 2 or (data[0] << 8 | data[1]) % 31 == 0)
