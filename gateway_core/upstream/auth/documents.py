"""HTTP requests for metadata documents and to token endpoints.

Untrusted servers chose their URLs. So the scheme must be https (http only on loopback, and only for an upstream on
loopback), redirects are not followed, and sizes and times are bounded. The check of an IP address applies to the very
address that is connected to, which prevents DNS rebinding. Origins that the operator configured are exempt from the
address check, and all of them but the upstream's also from the scheme check.

A proxy connects in the gateway's place, to addresses that the gateway does not see. So names are resolved here too, and
are refused if they lead to an address that is not allowed. Names that only the proxy can resolve are left to it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from yarl import URL

from gateway_core.config import AuthConfig
from gateway_core.errors import NotSent
from gateway_core.http1.client import field_names
from gateway_core.http1.hosts import leads_to_loopback
from gateway_core.http1.media_types import JSON
from gateway_core.late_imports import LateImport
from gateway_core.upstream.auth import reach
from gateway_core.upstream.network.access import Access

TIMEOUT: Final = 10.0
"""Seconds for one request."""
MAX_ANSWER: Final = 64 * 1024
MAX_URL: Final = 2048
_HTTP: Final = LateImport("gateway_core.upstream.auth.http")
"""Importing aiohttp takes a tenth of a second of processor time."""

if TYPE_CHECKING:
    from aiohttp import ClientSession

Document = TypeVar("Document", bound=msgspec.Struct)


class Refused(Exception):
    """No token can be obtained. The text tells the operator why, and contains no secrets."""

    def __init__(self, reason: str, *, code: str = "") -> None:
        """`code`: the error code of the token endpoint (RFC 6749, section 5.2)."""
        super().__init__(reason)
        self.code = code


class Fetcher:
    """Sends the OAuth requests for one upstream."""

    def __init__(self, upstream: URL, named: Collection[URL], access: Access) -> None:
        """`named`: URLs that the operator configured. Their origins are allowed at any address.

        `access` holds the upstream's proxies, its TLS, and the addresses at which it was reached.
        """
        self._local = leads_to_loopback(upstream.host or "")
        self._named = {url.origin() for url in named}
        self._own = {upstream.origin(), *self._named}
        self._access = access
        self._sessions: dict[bool, ClientSession] = {}
        """By whether they connect only to addresses allowed for this upstream; each made on first use."""
        self._closed = False

    @classmethod
    def of(cls, upstream: URL, config: AuthConfig, access: Access) -> Fetcher:
        """A fetcher for an upstream with this configuration."""
        named = (config.token_url, config.authorization_url, config.issuer)
        return cls(upstream, [URL(text) for text in named if text is not None], access)

    def address(self, text: str) -> URL:
        """Parse a URL from a document. Raises `Refused` if it is not allowed."""
        try:
            url = URL(text) if len(text) <= MAX_URL and text.isascii() and text.isprintable() else URL()
            host = url.host  # decodes it, which fails for invalid names
        except ValueError:
            url, host = URL(), None
        if url.scheme not in {"http", "https"} or not host or url.user is not None or url.fragment:
            raise Refused("a URL in its metadata is not one that can be asked")
        local = self._local and leads_to_loopback(host)
        if url.scheme != "https" and not local and url.origin() not in self._named:
            raise Refused(f"its metadata leads to {url.origin()}, which is not https")
        return url

    async def document(self, url: URL, kind: type[Document]) -> Document | None:
        """Get a JSON document. Returns None for HTTP 4xx. Raises `Refused`."""
        where = f"metadata at {url.origin()}"
        try:
            status, body = await self._exchange("GET", url, None, {})
        except Refused as failure:
            raise Refused(f"{where}: {failure}") from None
        if 400 <= status <= 499:
            return None
        if status != 200:
            redirects = "; redirects are not followed" if 300 <= status <= 399 else ""
            raise Refused(f"{where}: HTTP {status}{redirects}")
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise Refused(f"{where} is not what it should be") from None

    async def post(self, url: URL, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Post a form. Returns status and body of the response. Raises `Refused`."""
        return await self._exchange("POST", url, form, headers)

    async def register(self, url: URL, metadata: Mapping[str, Any]) -> tuple[int, bytes]:
        """Post a JSON object. Returns status and body of the response. Raises `Refused`."""
        body = msgspec.json.encode(metadata)
        return await self._exchange("POST", url, body, {field_names.CONTENT_TYPE: JSON})

    async def check_host(self, url: URL) -> None:
        """Raise `Refused` if a browser must not be sent to `url`, because of the address of its host."""
        if url.origin() in self._own:
            return
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._check_name(url)
        except (TimeoutError, reach.Forbidden):
            raise Refused(f"{url.origin()} is {reach.Forbidden.TEXT}") from None

    async def close(self) -> None:
        """Close all sessions. Later requests are refused."""
        self._closed = True
        for session in self._sessions.values():
            await session.close()

    async def _exchange(
        self, verb: str, url: URL, body: Mapping[str, str] | bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        strange = url.origin() not in self._own
        await _HTTP.load()
        from gateway_core.upstream.auth import http  # noqa: PLC0415 - see `_HTTP`

        try:
            options = await self._access.options(url, {field_names.ACCEPT: JSON, **headers})
            proxied = "proxy" in options
            guarded = strange and not proxied
            if self._closed:
                raise Refused("the gateway is closing")
            session = self._sessions.get(guarded) or http.session(self._check if guarded else None)
            self._sessions[guarded] = session
            async with asyncio.timeout(TIMEOUT):
                if strange and proxied:
                    await self._check_name(url)
            async with (
                asyncio.timeout(TIMEOUT),
                session.request(
                    verb,
                    url,
                    data=body,
                    allow_redirects=False,
                    timeout=http.NO_LIMIT,
                    **options,
                ) as response,
            ):
                answer = bytearray()
                async for chunk in response.content.iter_any():
                    answer += chunk
                    if len(answer) > MAX_ANSWER:
                        raise Refused(f"its answer is larger than {MAX_ANSWER} bytes")
                return response.status, bytes(answer)
        except TimeoutError:
            raise Refused(f"no answer within {TIMEOUT:g} s") from None
        except NotSent as problem:
            raise Refused(problem.reason) from None
        except (http.ClientError, OSError) as error:
            raise Refused(http.explained(error, url)) from None

    async def _check_name(self, url: URL) -> None:
        """Raise `Forbidden` if the host resolves to an address that this upstream must not lead to."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(url.raw_host, url.port, type=socket.SOCK_STREAM)
        except OSError:
            return
        for *_, where in found:
            self._check(str(where[0]))

    def _check(self, address: str) -> None:
        """Raise `Forbidden` if this upstream must not lead to an IP address."""
        if not reach.allowed(address, self._access.addresses):
            raise reach.Forbidden
