"""Where documents may come from, and their bounds."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from gateway_auth_jwt import fetcher, key_stores
from gateway_auth_jwt.discovery import find_jwks_uri, places
from gateway_auth_jwt.fetcher import Fetcher, FetchError, is_public
from gateway_auth_jwt.plugin import Jwt
from yarl import URL

from gateway_core.testing import configured, make_credentials

METADATA = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"


@pytest.fixture
async def client() -> AsyncIterator[Any]:
    made: list[Fetcher] = []

    def new(*named: str, ca: str | None = None) -> Fetcher:
        made.append(Fetcher([URL(text) for text in named], ca))
        return made[-1]

    yield new
    for each in made:
        await each.close()


def answering(*arguments: Any, **options: Any) -> Any:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(*arguments, **options)

    return answer


# -- discovery --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        ("https://a.example", [METADATA, OPENID]),
        ("https://a.example/", [METADATA, OPENID]),
        ("https://a.example/t/one", [f"{METADATA}/t/one", f"{OPENID}/t/one", f"/t/one{OPENID}"]),
        ("https://a.example/t/", [f"{METADATA}/t", f"{OPENID}/t", f"/t{OPENID}"]),
    ],
)
def test_metadata_is_looked_for_at_the_places_of_the_specification(issuer: str, expected: list[str]) -> None:
    assert [str(place) for place in places(issuer)] == [f"https://a.example{path}" for path in expected]


async def test_a_place_without_metadata_leads_to_the_next(start: Any, client: Any) -> None:
    authority = await start()
    right = {"issuer": authority.issuer, "jwks_uri": f"{authority.issuer}/elsewhere"}
    authority.answers[OPENID] = lambda _: asyncio.sleep(0, web.json_response(right))
    for wrong in (
        answering(status=404),
        answering(status=500),
        answering(text="<html>"),
        answering(text='{"issuer": "https://other.example", "jwks_uri": "https://other.example/keys"}'),
    ):
        authority.answers[METADATA] = wrong
        found = await find_jwks_uri(client(authority.issuer), authority.issuer)
        assert str(found) == f"{authority.issuer}/elsewhere"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"issuer": "https://evil.example"}, "another issuer"),
        ({"issuer": "{issuer}/"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"issuer": ["{issuer}"]}, "another issuer"),
        ({"jwks_uri": None}, "it has no jwks_uri"),
        ({"jwks_uri": ["{issuer}/keys"]}, "it has no jwks_uri"),
        ({"jwks_uri": "/keys"}, "not a URL"),
        ({"jwks_uri": "file:///etc/passwd"}, "not a URL"),
        ({"jwks_uri": "http://127.0.0.1:1/keys"}, "which is not https"),
        ({"jwks_uri": "http://login.example.com/keys"}, "which is not https"),
        ({"jwks_uri": "ftp://login.example.com/keys"}, "which is not https"),
        ({"jwks_uri": "https://user@login.example.com/keys"}, "user or a fragment"),
        ({"jwks_uri": "https://login.example.com/" + "k" * 2048}, "not a URL"),
        ({"jwks_uri": "https://login.example.com/ä"}, "not a URL"),
    ],
)
async def test_metadata_that_is_wrong_or_leads_astray_is_refused(
    start: Any, client: Any, metadata: dict[str, Any], reason: str
) -> None:
    authority = await start()
    for name, value in metadata.items():
        text = value.replace("{issuer}", authority.issuer) if isinstance(value, str) else value
        authority.metadata[name] = text
    with pytest.raises(FetchError, match=reason):
        await find_jwks_uri(client(authority.issuer), authority.issuer)


@pytest.mark.parametrize(
    "inside", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "169.254.169.254", "10.0.0.1", "[fe80::1]"]
)
async def test_metadata_cannot_lead_to_an_inside_address(start: Any, client: Any, inside: str) -> None:
    authority = await start()
    target = await start(ssl=_context())
    port = URL(target.issuer).port
    authority.metadata["jwks_uri"] = f"https://{inside}:{port}/keys"
    asking = client(authority.issuer)
    with pytest.raises(FetchError, match="is not at a public address; configure jwks_uri"):
        await asking.get(await find_jwks_uri(asking, authority.issuer))
    assert not target.hits


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("239.1.1.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("2002:0a00:0001::1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


async def test_a_proxy_is_used_and_cannot_lead_inside(start: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = await start()
    monkeypatch.setenv("https_proxy", proxy.issuer)
    asking = client("https://login.example.com")
    with pytest.raises(FetchError, match=r"login\.example\.com cannot be reached"):
        await asking.get(URL("https://login.example.com/keys"))
    assert sum(proxy.hits.values()) == 1  # CONNECT
    with pytest.raises(FetchError, match="is not at a public address"):
        await asking.get(URL("https://10.0.0.1/keys"))
    assert sum(proxy.hits.values()) == 1
    monkeypatch.setenv("no_proxy", "login.example.com")
    with pytest.raises(FetchError, match="cannot be reached"):
        await asking.get(URL("https://login.example.com:1/keys"))
    assert sum(proxy.hits.values()) == 1


# -- answers ----------------------------------------------------------------------------------------------------------


async def test_redirects_are_not_followed(start: Any, client: Any) -> None:
    authority, inside = await start(), await start()
    for status in (301, 302, 303, 307, 308):
        authority.answers["/keys"] = answering(status=status, headers={"Location": f"{inside.issuer}/keys"})
        with pytest.raises(FetchError, match=f"answers HTTP {status}; redirects are not followed"):
            await client(authority.issuer, inside.issuer).get(URL(f"{authority.issuer}/keys"))
    assert not inside.hits


async def test_an_endless_answer_is_cut_off(start: Any, client: Any) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)
            sent += 65536
            await asyncio.sleep(0.01)

    authority = await start()
    authority.answers["/keys"] = endless
    with pytest.raises(FetchError, match="sends more than 131072 bytes"):
        await client(authority.issuer).get(URL(f"{authority.issuer}/keys"))


async def test_a_compressed_answer_is_not_expanded(start: Any, client: Any) -> None:
    authority = await start()
    packed = gzip.compress(b" " * 10_000_000)
    authority.answers["/keys"] = answering(body=packed, headers={"Content-Encoding": "gzip"})
    assert await client(authority.issuer).get(URL(f"{authority.issuer}/keys")) == packed


async def test_an_answer_that_trickles_ends_in_time(start: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def trickling(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    monkeypatch.setattr(fetcher, "TIMEOUT", 0.2)
    authority = await start()
    authority.answers["/keys"] = trickling
    with pytest.raises(FetchError, match=r"no complete answer from .* within 0\.2 s"):
        await client(authority.issuer).get(URL(f"{authority.issuer}/keys"))


async def test_no_cookie_comes_back(start: Any, client: Any) -> None:
    given: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        given.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "a=b"})

    authority = await start()
    authority.answers["/keys"] = answer
    issuer = authority.issuer.replace("127.0.0.1", "localhost")  # aiohttp keeps no cookies of addresses
    asking = client(issuer)
    for _ in range(2):
        await asking.get(URL(f"{issuer}/keys"))
    assert given == [None, None]


# -- TLS --------------------------------------------------------------------------------------------------------------

AUTHORITY = trustme.CA()


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_a_changed_file_of_authorities_counts_from_the_next_document_on(
    start: Any, client: Any, tmp_path: Any
) -> None:
    authority, path = await start(ssl=_context()), tmp_path / "ca.pem"
    url = URL(f"{authority.issuer}{METADATA}")
    AUTHORITY.cert_pem.write_to_path(str(path))
    fetcher = client(authority.issuer, ca=str(path))
    assert await fetcher.get(url)
    path.write_text("no certificate")
    assert await fetcher.get(url), "what was read last stays"
    trustme.CA().cert_pem.write_to_path(str(path))
    with pytest.raises(FetchError, match="not trusted"):
        await fetcher.get(url)
    AUTHORITY.cert_pem.write_to_path(str(path))
    assert await fetcher.get(url)


def test_a_file_of_authorities_that_cannot_be_used_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(OSError, match=r"ca\.pem") as caught:
        Fetcher([], path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"


async def test_the_plugin_warns_while_changed_authorities_cannot_be_used(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_stores, "REFRESH", 0.0)
    monkeypatch.setattr(key_stores, "RETRY", 0.0)
    authority, path = await start(ssl=_context()), tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    table = {"issuer": authority.issuer, "ca": path}
    loaded = configured(Jwt, audience=authority.audience, issuers=[table])
    credentials = make_credentials(f"Bearer {authority.token()}")
    async with loaded.instance as plugin:  # type: ignore[attr-defined]
        assert (await plugin.authenticate(credentials)).subject == "alice"
        assert loaded.warnings == ()
        path.write_text("no certificate")
        assert (await plugin.authenticate(credentials)).subject == "alice"
        assert loaded.warnings == (
            f"issuer {authority.issuer}: changed authorities (ca) are not used: {path}: holds no certificate in PEM",
        )
        AUTHORITY.cert_pem.write_to_path(str(path))
        assert (await plugin.authenticate(credentials)).subject == "alice"
        assert loaded.warnings == ()


async def test_only_a_trusted_authority_is_believed(start: Any, judge: Any, tmp_path: Any) -> None:
    authority = await start(ssl=_context())
    path = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    assert (await judge(authority, authority.token(), issuer={"ca": path})).subject == "alice"
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    for table in ({"ca": other}, {}):
        with pytest.raises(Exception, match="has a certificate that is not trusted") as caught:
            await judge(authority, authority.token(), issuer=table)
        assert type(caught.value).__name__ == "KeysUnavailableError"
