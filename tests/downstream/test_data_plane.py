"""The data plane over TLS: who is asked about a certificate, and the renewal of the files."""

import asyncio
import datetime
import os
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from gateway_core import Credentials, Plugin, PluginConfig, Principal, Reject, hookimpl
from gateway_core.config import TrustedProxiesConfig
from gateway_core.config.server_tls import ServerTlsConfig
from gateway_core.errors import ConfigError

WAY = ["modern", "legacy"]


class Certificates(Plugin[PluginConfig]):
    """Knows everybody with a certificate by the first name in it."""

    credential_headers = ()

    def __init__(self, config: PluginConfig | None = None) -> None:
        super().__init__(config or PluginConfig())
        self.asked: list[Credentials] = []

    @hookimpl
    def authenticate(self, credentials: Credentials) -> Principal | Reject | None:
        self.asked.append(credentials)
        found = credentials.certificate
        return None if found is None else Principal.proven(found.names[0], issuer="tls", expires=found.expires)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(tmp_path: Path, authority: trustme.CA) -> ServerTlsConfig:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    write(tmp_path, authority.issue_cert("127.0.0.1"))
    return ServerTlsConfig(
        cert=str(tmp_path / "cert.pem"), key=str(tmp_path / "key.pem"), client_ca=str(tmp_path / "ca.pem")
    )


def write(folder: Path, issued: trustme.LeafCert) -> None:
    for name, data in (("cert.pem", issued.cert_chain_pems[0]), ("key.pem", issued.private_key_pem)):
        (folder / "new").write_bytes(data.bytes())
        os.replace(folder / "new", folder / name)


def connector(authority: trustme.CA, name: str = "", **validity: Any) -> aiohttp.TCPConnector:
    """Connections of a client with a certificate for `name`, if any."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if name:
        authority.issue_cert(name, **validity).configure_cert(context)
    return aiohttp.TCPConnector(ssl=context)


async def call(world: Any, helpers: Any, way: str, headers: dict[str, str] | None = None) -> Any:
    if way == "legacy":
        return await world.post(helpers.initialize(), headers)
    given, body = helpers.modern("tools/call", {"name": "echo"})
    return await world.post(body, {**given, **(headers or {})})


@pytest.mark.parametrize("way", WAY)
async def test_a_certificate_is_looked_at_once_whatever_the_connection(
    start: Any, helpers: Any, tls: ServerTlsConfig, authority: trustme.CA, way: str
) -> None:
    plugin = Certificates()
    world = await start(tls=tls, authenticators=[plugin])
    for name in ("alice.example", "bob.example", ""):
        mine = connector(authority, name)
        for _ in range(3):
            async with aiohttp.ClientSession(connector=mine, connector_owner=False) as world.http:
                for _ in range(2):
                    assert (await call(world, helpers, way)).status == (200 if name else 401)
            await mine.close()
            mine = aiohttp.TCPConnector(ssl=mine._ssl)
        await mine.close()
    asked = [credentials.certificate and credentials.certificate.names for credentials in plugin.asked]
    assert asked == [("DNS:alice.example",), ("DNS:bob.example",), None]
    principals = {exchange.agent.principal.id for exchange in world.pipeline.exchanges}
    assert principals == (set() if way == "legacy" else {"DNS:alice.example|tls", "DNS:bob.example|tls"})


async def test_a_proof_ends_with_the_certificate_even_on_an_open_connection(
    start: Any, helpers: Any, tls: ServerTlsConfig, authority: trustme.CA
) -> None:
    world = await start(tls=tls, authenticators=[Certificates()])
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=3)
    async with aiohttp.ClientSession(connector=connector(authority, "a.example", not_after=ends)) as world.http:
        assert (await call(world, helpers, "modern")).status == 200
        async with asyncio.timeout(30):
            while (await call(world, helpers, "modern")).status == 200:
                await asyncio.sleep(0.1)
        assert (await call(world, helpers, "modern")).status == 401


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_certificate_of_a_proxy_is_not_that_of_its_client(
    start: Any, helpers: Any, tls: ServerTlsConfig, authority: trustme.CA, trusted: bool
) -> None:
    plugin = Certificates()
    networks = ("127.0.0.1",) if trusted else ("10.0.0.1",)
    world = await start(tls=tls, authenticators=[plugin], trusted_proxies=TrustedProxiesConfig(networks=networks))
    async with aiohttp.ClientSession(connector=connector(authority, "proxy.example")) as world.http:
        forwarded = await call(world, helpers, "modern", {"X-Forwarded-For": "192.0.2.1"})
        assert forwarded.status == (401 if trusted else 200)
        assert (await call(world, helpers, "modern")).status == 200


async def test_the_page_for_people_says_https(start: Any, tls: ServerTlsConfig, authority: trustme.CA) -> None:
    world = await start(tls=tls)
    async with aiohttp.ClientSession(connector=connector(authority)) as http:
        async with http.get(f"{world.base}/mcp", headers={"Accept": "text/html"}) as answer:
            assert f"https://127.0.0.1:{world.server.port}/mcp" in await answer.text()
        origins = {"https://gateway.example": 403, "http://localhost:1": 405, "https://127.0.0.1:5": 405}
        for origin, status in origins.items():
            async with http.put(f"{world.base}/mcp", headers={"Origin": origin}) as answer:
                assert answer.status == status


async def test_housekeeping_renews_the_certificate(
    start: Any, tls: ServerTlsConfig, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.downstream.data_plane.HOUSEKEEPING_INTERVAL", 0.05)
    world = await start(tls=tls)
    assert world.server.certificate["names"] == ("IP:127.0.0.1",)
    write(Path(tls.cert).parent, authority.issue_cert("127.0.0.1", "renewed.example"))
    async with asyncio.timeout(10):
        while "DNS:renewed.example" not in world.server.certificate["names"]:
            await asyncio.sleep(0.02)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    _, writer = await asyncio.open_connection("127.0.0.1", world.server.port, ssl=trusting)
    shown = writer.get_extra_info("peercert")
    writer.close()
    assert ("DNS", "renewed.example") in shown["subjectAltName"]


async def test_files_that_cannot_be_used_stop_the_start(start: Any, tls: ServerTlsConfig) -> None:
    Path(tls.cert).write_text("nothing")
    with pytest.raises(ConfigError, match=r"mcp\.proxy\.tls\.cert: holds no certificate"):
        await start(tls=tls)


async def test_without_tls_there_is_no_certificate(start: Any) -> None:
    assert (await start()).server.certificate is None
