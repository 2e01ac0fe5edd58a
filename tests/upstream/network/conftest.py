"""Certificates made for the test, servers that use them, and a small HTTP proxy."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from yarl import URL


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that no system trusts."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """The TLS context of a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class Proxy:
    """An HTTP proxy that finds every host name on loopback. It tunnels with CONNECT and forwards plain requests."""

    credentials: str = ""
    """The value of `Proxy-Authorization` that it requires, if any."""
    answer: bytes = b""
    """The answer that it gives instead of serving."""
    asked: list[str] = field(default_factory=list)
    """The first line of each request."""
    heads: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        pipes: list[asyncio.Task[None]] = []
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, _, rest = head.partition("\r\n")
                self.asked.append(first)
                self.heads.append(head)
                verb, target, _ = first.split(" ")
                if self.answer:
                    writer.write(self.answer)
                    return
                if self.credentials and f"Proxy-Authorization: {self.credentials}\r\n" not in head:
                    writer.write(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
                    return
                url = URL(f"http://{target}") if verb == "CONNECT" else URL(target)
                assert url.port is not None, "the target of a forwarded request is absolute"
                if behind is None:
                    behind = await asyncio.open_connection("127.0.0.1", url.port)
                    pipes.append(asyncio.create_task(_pipe(behind[0], writer)))
                if verb == "CONNECT":
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    await _pipe(reader, behind[1])
                    return
                behind[1].write(f"{verb} {url.raw_path_qs} HTTP/1.1\r\n{rest}".encode())
                lengths = [line for line in rest.lower().split("\r\n") if line.startswith("content-length:")]
                if lengths:
                    behind[1].write(await reader.readexactly(int(lengths[0].partition(":")[2])))
        finally:
            if behind is not None:
                behind[1].close()
            for pipe in pipes:
                pipe.cancel()


StartProxy = Callable[..., Awaitable[Proxy]]


@pytest.fixture
async def start_proxy(listen_on: Any) -> StartProxy:
    """Start a `Proxy` with these settings: `await start_proxy(credentials="", answer=b"")`."""

    async def start(**settings: Any) -> Proxy:
        proxy = Proxy(**settings)
        proxy.port = await listen_on(proxy.serve)
        return proxy

    return start
