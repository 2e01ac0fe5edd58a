"""Upstreams and authorization servers behind a proxy."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import trustme
from pydantic import SecretStr
from yarl import URL

from gateway_core.config import AuthConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown, Permanent
from gateway_core.http1.client.dial import HttpProxy, ProxyFailed
from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.network.proxies import Proxies
from tests.upstream.network.conftest import server_context

CALL = ("tools/call", {"name": "t", "arguments": {}})
SECRET = "pass/word@7"
CREDENTIALS = f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}"
ENCODED = "me:pass%2Fword%407"


async def answer(seen: Any, writer: Any) -> None:
    reply = json.dumps({"jsonrpc": "2.0", "id": seen.message.get("id"), "result": {"n": 1}})
    head = f"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {len(reply)}\r\n\r\n"
    writer.write(f"{head}{reply}".encode())


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_requests_to_http_are_forwarded(scripted: Any, connect: Any, start_proxy: Any) -> None:
    server, proxy = await scripted(answer), await start_proxy()
    link = await connect(f"http://upstream.test:{server.port}/mcp?a=b", proxy=proxy.url)
    for _ in range(3):
        assert json.loads((await link.connection.request(*CALL)).result) == {"n": 1}
    assert set(proxy.asked) == {f"POST http://upstream.test:{server.port}/mcp?a=b HTTP/1.1"}
    assert server.of("tools/call")[0].headers["host"] == f"upstream.test:{server.port}"
    assert server.of("tools/call")[0].path == "/mcp?a=b"


async def test_https_passes_through_a_tunnel(
    scripted: Any, connect: Any, start_proxy: Any, authority: trustme.CA, ca_file: str
) -> None:
    proxy = await start_proxy(credentials=CREDENTIALS)
    server = await scripted(answer, tls=server_context(authority.issue_cert("upstream.test")))
    link = await connect(
        f"https://upstream.test:{server.port}/mcp",
        proxy=proxy.url.replace("//", f"//{ENCODED}@"),
        tls={"ca": ca_file},
    )
    for _ in range(3):
        assert (await link.connection.request(*CALL)).error is None
    assert proxy.asked == [f"CONNECT upstream.test:{server.port} HTTP/1.1"]
    assert f"Host: upstream.test:{server.port}\r\n" in proxy.heads[0]
    assert not any("proxy-authorization" in seen.headers for seen in server.seen)


async def test_the_proxy_gets_its_credentials_with_each_forwarded_request(
    scripted: Any, connect: Any, start_proxy: Any
) -> None:
    server, proxy = await scripted(answer), await start_proxy(credentials=CREDENTIALS)
    link = await connect(f"http://upstream.test:{server.port}/mcp", proxy=proxy.url.replace("//", f"//{ENCODED}@"))
    assert (await link.connection.request(*CALL)).error is None


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("given", ["", "me:wrong-pass@"])
async def test_a_proxy_that_wants_other_credentials_is_named_without_them(
    scripted: Any, connect: Any, start_proxy: Any, scheme: str, given: str
) -> None:
    server, proxy = await scripted(answer), await start_proxy(credentials=CREDENTIALS)
    url = proxy.url.replace("//", f"//{given}")
    link = await connect(f"{scheme}://upstream.test:{server.port}/mcp", proxy=url, opened=False)
    with pytest.raises(Permanent, match=f"proxy 127.0.0.1:{proxy.port}.*407.*credentials") as caught:
        await link.connection.open(None)
    assert "wrong-pass" not in caught.value.reason
    assert server.seen == []


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"HTTP/1.1 503 No\r\n\r\n", "HTTP 503"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\nsecret", "HTTP 403"),
        (b"SSH-2.0-server\r\n\r\n", "is not that of an HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "is not that of an HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "is not that of an HTTP proxy"),
    ],
    ids=["503", "403", "ssh", "more", "endless"],
)
async def test_a_tunnel_that_cannot_be_opened_sends_nothing(
    connect: Any, start_proxy: Any, reply: bytes, why: str
) -> None:
    proxy = await start_proxy(answer=reply)
    link = await connect("https://upstream.test/mcp", proxy=proxy.url, opened=False)
    with pytest.raises(NotSent, match=f"proxy 127.0.0.1:{proxy.port}.*{why}") as caught:
        await link.connection.open(None)
    assert "secret" not in caught.value.reason


async def test_a_proxy_that_hangs_up_or_is_not_there_sends_nothing(connect: Any, listen_on: Any) -> None:
    async def hang_up(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")

    port = await listen_on(hang_up)
    for url, why in (
        (f"http://127.0.0.1:{port}", "closed the connection"),
        ("http://127.0.0.1:1", "cannot be reached: Connection refused"),
        ("http://does-not-exist.invalid:3128", "cannot be resolved"),
    ):
        link = await connect("https://upstream.test/mcp", proxy=url, opened=False)
        with pytest.raises(NotSent, match=f"proxy .*({why})"):
            await link.connection.open(None)


async def test_a_silent_proxy_ends_with_the_time_to_connect(
    connect: Any, listen_on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.network.host.CONNECT_TIMEOUT", 0.2)

    async def silent(reader: Any, writer: Any) -> None:
        await reader.read()

    link = await connect("https://upstream.test/mcp", proxy=f"http://127.0.0.1:{await listen_on(silent)}", opened=False)
    with pytest.raises(NotSent, match=r"through the proxy 127.0.0.1:\d+ within 0.2 s"):
        await link.connection.open(None)


async def test_a_tunnel_that_breaks_leaves_the_outcome_unknown(
    scripted: Any, connect: Any, start_proxy: Any, authority: trustme.CA, ca_file: str
) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.transport.abort()

    proxy = await start_proxy()
    server = await scripted(script, tls=server_context(authority.issue_cert("upstream.test")))
    link = await connect(f"https://upstream.test:{server.port}/mcp", proxy=proxy.url, tls={"ca": ca_file})
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL)
    assert len(server.of("tools/call")) == 1


@pytest.mark.parametrize("small", [False, True])
async def test_the_proxies_of_the_environment_are_used(
    scripted: Any, connect: Any, start_proxy: Any, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    server, proxy = await scripted(answer), await start_proxy()
    monkeypatch.setenv("http_proxy" if small else "HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "other.test")
    link = await connect(f"http://upstream.test:{server.port}/mcp")
    assert (await link.connection.request(*CALL)).error is None
    assert proxy.asked
    asked = len(proxy.asked)
    direct = await connect(server.url)  # no proxy could reach this loopback address
    assert (await direct.connection.request(*CALL)).error is None
    alone = await connect(f"http://upstream.test:{server.port}/mcp", proxy="none", opened=False)
    with pytest.raises(NotSent, match=r"upstream.test cannot be resolved"):
        await alone.connection.open(None)
    assert len(proxy.asked) == asked


@pytest.mark.parametrize(
    ("exempt", "url", "direct"),
    [
        ("", "http://a.example/", False),
        ("*", "http://a.example/", True),
        ("example", "http://a.example/", True),
        (".example", "http://a.example/", True),
        ("*.example", "http://a.example/", True),
        ("ample", "http://a.example/", False),
        ("a.example", "http://A.Example./", True),
        ("b.example, a.example", "http://a.example/", True),
        ("b.example a.example", "http://a.example/", True),
        ("a.example:80", "http://a.example/", True),
        ("a.example:8080", "http://a.example/", False),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://ten.example/", False),
        ("192.0.2.7", "http://192.0.2.7:99/", True),
        ("192.0.2.7:99", "http://192.0.2.7:99/", True),
        ("[2001:db8::1]", "http://[2001:db8::1]/", True),
        ("2001:db8::/32", "http://[2001:db8::1]/", True),
        ("[2001:db8::1]:80", "http://[2001:db8::1]/", True),
        ("", "http://127.0.0.1/", True),
        ("", "http://localhost:99/", True),
        ("", "http://app.localhost/", True),
        ("", "http://[::1]/", True),
        (",, :,/", "http://a.example/", False),
    ],
)
def test_no_proxy(exempt: str, url: str, direct: bool) -> None:
    proxies = Proxies(None, {"HTTP_PROXY": "http://proxy.example:3128", "NO_PROXY": exempt})
    assert (proxies.of(URL(url)) is None) is direct


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HTTPS_PROXY": "http://p.example:3128"}, HttpProxy("p.example", 3128)),
        ({"https_proxy": "p.example:3128", "HTTPS_PROXY": "http://q.example"}, HttpProxy("p.example", 3128)),
        ({"HTTPS_PROXY": " http://p.example "}, HttpProxy("p.example", 80)),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:99/"}, HttpProxy("2001:db8::1", 99)),
        ({"HTTPS_PROXY": f"http://{ENCODED}@p.example"}, HttpProxy("p.example", 80, CREDENTIALS)),
        ({"HTTP_PROXY": "http://p.example"}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "http://p.example", "REQUEST_METHOD": "GET"}, None),
    ],
)
def test_the_environment_names_a_proxy_for_each_scheme(environment: dict[str, str], expected: HttpProxy | None) -> None:
    assert Proxies(None, environment).of(URL("https://a.example/")) == expected


@pytest.mark.parametrize(
    "value", ["socks5://me:hunter2@p.example:1080", "https://p.example", "http://", "p:port", "//"]
)
def test_a_proxy_that_cannot_be_used_is_an_error_without_its_value(value: str) -> None:
    proxies = Proxies(None, {"HTTP_PROXY": value})
    assert proxies.of(URL("http://localhost/")) is None
    with pytest.raises(ProxyFailed, match="HTTP_PROXY") as caught:
        proxies.of(URL("http://a.example/"))
    assert "hunter2" not in str(caught.value)
    assert caught.value.lasting


def test_the_credentials_of_a_proxy_do_not_show() -> None:
    proxy = Proxies(f"http://{ENCODED}@p.example").of(URL("http://a.example"))
    assert proxy is not None
    assert proxy.authorization == CREDENTIALS
    assert CREDENTIALS not in repr(proxy)


TOKEN = b'{"access_token": "t0ken", "token_type": "bearer"}'


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_tokens_are_fetched_through_the_proxy(
    scripted: Any,
    connect: Any,
    listen_on: Any,
    start_proxy: Any,
    authority: trustme.CA,
    ca_file: str,
    scheme: str,
) -> None:
    async def token(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n%b" % (len(TOKEN), TOKEN))

    context = server_context(authority.issue_cert("auth.test", "upstream.test")) if scheme == "https" else None
    port = await listen_on(token, context)
    server = await scripted(answer, tls=context)
    proxy = await start_proxy(credentials=CREDENTIALS)
    # Built without the rule that http:// token endpoints must be on loopback.
    token_url = f"{scheme}://auth.test:{port}/token"
    auth = AuthConfig.model_construct(client_id="me", client_secret=SecretStr(SECRET), token_url=token_url)
    link = await connect(
        f"{scheme}://upstream.test:{server.port}/mcp",
        proxy=proxy.url.replace("//", f"//{ENCODED}@"),
        auth=auth,
        **({"tls": {"ca": ca_file}} if context is not None else {}),
    )
    await link.connection.request(*CALL)
    assert server.of("tools/call")[0].headers["authorization"] == "Bearer t0ken"
    wanted = f"CONNECT auth.test:{port} " if scheme == "https" else f"POST http://auth.test:{port}/"
    assert any(first.startswith(wanted) for first in proxy.asked)


async def test_metadata_leads_through_no_proxy_to_this_machine(scripted: Any, connect: Any, start_proxy: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        challenge = 'Bearer resource_metadata="https://localhost:1/metadata"'
        writer.write(f"HTTP/1.1 401 X\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n".encode())

    server, proxy = await scripted(script, era="none"), await start_proxy()
    auth = AuthConfig(client_id="me", client_secret=SecretStr(SECRET))
    url = f"http://upstream.test:{server.port}/mcp"
    link = await connect(url, proxy=proxy.url, auth=auth, opened=False)
    with pytest.raises(NotSent, match="at an address that this upstream must not lead to"):
        await link.connection.open(None)
    assert not any(first.startswith("CONNECT") for first in proxy.asked)


def test_the_password_of_a_proxy_is_hidden_in_texts() -> None:
    config = UpstreamConfig(name="a", transport="http", url="https://a.example", proxy=f"http://{ENCODED}@p.example")
    assert Concealer.of(config).hide(f"a {SECRET} b pass%2Fword%407") == "a [REDACTED] b [REDACTED]"
