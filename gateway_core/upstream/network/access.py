"""The proxies and the trust of one upstream, for its requests and for requests of its access tokens."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

from yarl import URL

from gateway_core.config import UpstreamConfig
from gateway_core.http1.client import field_names
from gateway_core.upstream.network.proxies import Proxies
from gateway_core.upstream.network.trust import Trust


class Access:
    """How requests on behalf of one upstream reach their hosts."""

    def __init__(self, config: UpstreamConfig) -> None:
        assert config.url is not None, "checked by the configuration"
        self.proxies = Proxies(config.proxy)
        self.trust = Trust(config.tls, config.name)
        self.addresses: Final[set[str]] = set()
        """IP addresses at which the upstream was reached; those of a proxy do not count."""
        self._origin = URL(config.url).origin()

    async def options(self, url: URL, headers: Mapping[str, str]) -> dict[str, Any]:
        """The arguments of an aiohttp request to `url` with these headers. Raises `ProxyFailed` and `Permanent`.

        A client certificate and `verify = false` apply to the upstream alone, as credentials go to other hosts.
        """
        found: dict[str, Any] = {"headers": headers}
        if url.scheme == "https":
            found["ssl"] = await self._context(url)
        proxy = self.proxies.of(url)
        if proxy is not None:
            found["proxy"] = URL.build(scheme="http", host=proxy.host, port=proxy.port)
            if proxy.authorization:
                # aiohttp sends `proxy_headers` with CONNECT alone.
                key = "proxy_headers" if url.scheme == "https" else "headers"
                found[key] = {**found.get(key, {}), field_names.PROXY_AUTHORIZATION: proxy.authorization}
        return found

    async def _context(self, url: URL) -> ssl.SSLContext:
        if url.origin() == self._origin:
            return await self.trust.context()
        return await self.trust.context_for_others()
