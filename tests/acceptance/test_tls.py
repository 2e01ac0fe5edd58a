"""Agents of both eras over TLS, with client certificates, through a whole gateway."""

from __future__ import annotations

import asyncio
import datetime
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.acceptance.conftest import Rad, Recorder, gateways, wait_until

CONFIG = """
[mcp.proxy]
enable = true
port = {port}

[mcp.proxy.tls]
cert = "../server.pem"
key = "../server-key.pem"
client_ca = "../agents-ca.pem"
client_certificate = "%s"

[mcp.proxy.log]
level = "DEBUG"

[[mcp.proxy.upstreams]]
name = "web"
transport = "http"
url = "%s"

[[mcp.proxy.plugins]]
name = "auth_mtls"
subject = "dns"
allow = ["*.agents.example"]

[[mcp.proxy.plugins]]
name = "security_redact"
"""
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
MODES = ["legacy", "2026-07-28"]


def write(folder: Path, issued: trustme.LeafCert) -> None:
    """Put a certificate and its key in place, each at once, as renewal does."""
    for name, data in (("server.pem", issued.cert_chain_pems[0]), ("server-key.pem", issued.private_key_pem)):
        (folder / "new").write_bytes(data.bytes())
        (folder / "new").chmod(0o600)
        os.replace(folder / "new", folder / name)


@pytest.fixture(scope="module")
def servers() -> trustme.CA:
    """Who issues the certificates of the gateway."""
    return trustme.CA()


@pytest.fixture(scope="module")
def agents() -> trustme.CA:
    """Who issues the certificates of agents."""
    return trustme.CA()


Start = Callable[..., Rad]


def begin(folder: Path, start: Start, servers: trustme.CA, agents: trustme.CA, web: Recorder, asks: str) -> Rad:
    """Start a gateway with certificates in `folder`, where `start` makes its folder. `asks`: `client_certificate`."""
    folder.mkdir()
    write(folder, servers.issue_cert("127.0.0.1", "first.example"))
    agents.cert_pem.write_to_path(str(folder / "agents-ca.pem"))
    running: Rad = start(CONFIG % (asks, web.url), wait=False)
    wait_until(lambda: "listening" in running.log.read_text() or running.process.poll() is not None)
    wait_until(lambda: running.is_healthy("web"))
    return running


@pytest.fixture(scope="module")
def web(shared_recorder: Callable[..., Recorder]) -> Recorder:
    return shared_recorder("web")


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, servers: trustme.CA, agents: trustme.CA, web: Recorder
) -> Iterator[Rad]:
    """One gateway for the tests that only talk to it; agents may show a certificate."""
    folder = tmp_path_factory.mktemp("shared")
    with gateways(folder) as start:
        yield begin(folder / "gateway0", start, servers, agents, web, "optional")


@pytest.fixture
def start(tmp_path: Path, gateway: Start, servers: trustme.CA, agents: trustme.CA, web: Recorder) -> Start:
    """Starts a gateway for one test: `start("required")`."""
    return lambda asks="optional": begin(tmp_path / "gateway0", gateway, servers, agents, web, asks)


def trusting(servers: trustme.CA, issued: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    servers.configure_trust(context)
    if issued is not None:
        issued.configure_cert(context)
    return context


@asynccontextmanager
async def agent(rad: Rad, context: ssl.SSLContext, mode: str) -> AsyncIterator[Client]:
    """The official client over https."""
    async with (
        httpx2.AsyncClient(verify=context, trust_env=False, timeout=httpx2.Timeout(120)) as http,
        Client(streamable_http_client(f"https://127.0.0.1:{rad.port}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def shown(rad: Rad, servers: trustme.CA) -> set[str]:
    """The names in the certificate that a new connection gets."""
    plain = socket.create_connection(("127.0.0.1", rad.port), timeout=60)
    with trusting(servers).wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
        found: Any = wrapped.getpeercert()
    return {name for _, name in found["subjectAltName"]}


@pytest.mark.parametrize("mode", MODES)
async def test_an_agent_is_who_its_certificate_says(
    shared: Rad, servers: trustme.CA, agents: trustme.CA, mode: str
) -> None:
    before = len(shared.log.read_text())
    context = trusting(servers, agents.issue_cert("alice.agents.example"))
    async with agent(shared, context, mode) as client:
        assert "record" in [tool.name for tool in (await client.list_tools()).tools]
        for number in range(3):
            result = await client.call_tool("record", {"call_id": str(number)})
            assert result.content[0].text == "web"
    said = "agent=alice.agents.example|auth_mtls outcome=ok"
    await asyncio.to_thread(wait_until, lambda: shared.log.read_text()[before:].count(said) >= 3)
    log = shared.log.read_text()
    assert "PRIVATE" not in log
    assert f"https://127.0.0.1:{shared.port}" in log


@pytest.mark.parametrize("kind", ["absent", "not allowed", "expired", "foreign"])
async def test_an_agent_without_a_certificate_that_counts_gets_nothing(
    start: Start, servers: trustme.CA, agents: trustme.CA, kind: str
) -> None:
    """One gateway for each kind, because it logs such connections once a minute."""
    rad = await asyncio.to_thread(start)
    issued, reason = {
        "absent": (None, "no plugin recognises its credentials"),
        "not allowed": (agents.issue_cert("mallory.example"), "allow matches no name of the client certificate"),
        "expired": (agents.issue_cert("alice.agents.example", not_after=NOW - DAY), "certificate has expired"),
        "foreign": (trustme.CA().issue_cert("alice.agents.example"), "unable to get local issuer certificate"),
    }[kind]
    for mode in MODES:
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - also a group
            async with agent(rad, trusting(servers, issued), mode) as client:
                await client.call_tool("record", {"call_id": "1"})
        assert not isinstance(caught.value, AssertionError)
    if kind in {"absent", "not allowed"}:
        async with httpx2.AsyncClient(verify=trusting(servers, issued), trust_env=False, timeout=60) as http:
            answer = await http.post(f"https://127.0.0.1:{rad.port}/mcp", json={})
            assert answer.status_code == 401
            health = await http.get(f"https://127.0.0.1:{rad.port}/healthz")
            assert health.status_code == 200
    await asyncio.to_thread(wait_until, lambda: reason in rad.log.read_text())
    assert "tools/call" not in rad.log.read_text()


async def test_the_operators_call_shows_a_certificate(shared: Rad, agents: trustme.CA, tmp_path: Path) -> None:
    mine = tmp_path / "mine.pem"
    agents.issue_cert("alice.agents.example").private_key_and_cert_chain_pem.write_to_path(str(mine))
    call = ("call", "record", "--arg", "call_id=1")
    called = await asyncio.to_thread(shared.run, *call, "--client-cert", str(mine))
    assert (called.returncode, called.stdout) == (0, "web\n"), called.stderr
    refused = await asyncio.to_thread(shared.run, *call)
    assert refused.returncode == 1
    assert "authentication is required" in refused.stderr
    assert "or with a client certificate (--client-cert)" in refused.stderr


async def test_required_certificates_are_required_of_probes_too(
    start: Start, servers: trustme.CA, agents: trustme.CA
) -> None:
    rad = await asyncio.to_thread(start, "required")
    async with httpx2.AsyncClient(verify=trusting(servers), trust_env=False, timeout=60) as http:
        with pytest.raises(httpx2.TransportError):
            await http.get(f"https://127.0.0.1:{rad.port}/healthz")
    context = trusting(servers, agents.issue_cert("alice.agents.example"))
    async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=60) as http:
        assert (await http.get(f"https://127.0.0.1:{rad.port}/healthz")).status_code == 200


@pytest.mark.parametrize("mode", MODES)
async def test_a_renewed_certificate_is_used_while_a_call_goes_on(
    start: Start, servers: trustme.CA, agents: trustme.CA, tmp_path: Path, mode: str
) -> None:
    rad = await asyncio.to_thread(start)
    folder = rad.config.parent.parent
    over = tmp_path / "over"
    context = trusting(servers, agents.issue_cert("alice.agents.example"))
    async with agent(rad, context, mode) as client:
        going = asyncio.create_task(client.call_tool("slow", {"call_id": "1", "seconds": 100, "until": str(over)}))
        assert "first.example" in await asyncio.to_thread(shown, rad, servers)
        write(folder, servers.issue_cert("127.0.0.1", "second.example"))
        await asyncio.to_thread(wait_until, lambda: "second.example" in shown(rad, servers))
        names = (await asyncio.to_thread(rad.status))["certificate"]["names"]
        assert "DNS:second.example" in names
        stays = "the certificate in use stays"
        before = rad.log.read_text().count(stays)  # one, if the gateway looked between the two new files
        (folder / "server-key.pem").write_text("broken")
        await asyncio.to_thread(wait_until, lambda: rad.log.read_text().count(stays) > before)
        assert "second.example" in await asyncio.to_thread(shown, rad, servers)
        assert not going.done()
        over.touch()
        assert (await going).content[0].text == "web"
        assert (await client.call_tool("record", {"call_id": "2"})).content[0].text == "web"
    log = rad.log.read_text()
    assert log.count("have changed; new connections use them") == 1
    assert log.count(stays) == before + 1
