"""What the configuration gives a server as a secret is hidden in what the server says."""

import pytest

from gateway_core.config import UpstreamConfig
from gateway_core.config.models import AuthConfig
from gateway_core.upstream.concealing import Concealer


def stdio(*args: str, **env: str) -> Concealer:
    return Concealer.of(UpstreamConfig(name="a", transport="stdio", command="x", args=args, env=env))


def http(url: str = "http://localhost:1/mcp", **more: object) -> Concealer:
    return Concealer.of(UpstreamConfig.model_validate({"name": "a", "transport": "http", "url": url, **more}))


@pytest.mark.parametrize(
    "args",
    [
        ("--api-key", "hunter-hush"),
        ("--token", "hushhush"),
        ("-p", "hush2hush"),
        ("--password=hushhush",),
        ("--db=postgres://u:hushhush@db/x",),
        ("postgres://u:hushhush@db/x",),
        ("https://hushhush@host/x",),
        ("https://host/mcp?key=hushhush&mode=fast",),
        ("https://host/mcp?key=hush%2Fhush",),
        ("--header", "Authorization: Bearer hushhush"),
        ("--header", "X-Api-Key:hushhush"),
        ("--header=Authorization: Bearer hushhush",),
        ("-e", "API_TOKEN=hushhush"),
        ("mcp-server", "hush1hush"),
    ],
)
def test_secrets_among_arguments_are_hidden(args: tuple[str, ...]) -> None:
    concealer = stdio(*args)
    for said in ("hushhush", "hush/hush", "hush%2Fhush", "hunter-hush", "hush2hush", "hush1hush"):
        if said in " ".join(args) or (said == "hush/hush" and "%2F" in args[0]):
            assert concealer.hide(f"cannot log in with {said}: 401") == "cannot log in with ***: 401"


@pytest.mark.parametrize(
    "args",
    [
        ("-y", "@modelcontextprotocol/server-filesystem", "/home/jane/data", "."),
        ("mcp-server-time==1.2.3", "--local-timezone", "Europe/Oslo"),
        ("--port", "8080", "--host", "127.0.0.1", "--mode=fast", "-m", "package.module"),
        ("https://host.example.com/mcp",),
        ("../data/file.db", "~/notes"),
    ],
)
def test_options_paths_packages_and_plain_words_stay_readable(args: tuple[str, ...]) -> None:
    text = f"cannot start {' '.join(args)}"
    assert stdio(*args).hide(text) == text


def test_the_environment_the_headers_the_query_and_the_credentials_are_hidden() -> None:
    assert stdio(A="hush-env", B="on").hide("hush-env is on") == "*** is on"
    concealer = http(headers={"Authorization": "Bearer hush-head", "X-Key": "hush-key"})
    assert concealer.hide("not hush-head, Bearer hush-head, hush-key") == "not ***, ***, ***"
    assert http("http://localhost:1/mcp?api=hush-query").hide("bad hush-query") == "bad ***"
    auth = AuthConfig.model_validate({"client_id": "me", "client_secret": "hush-oauth"})
    assert http(auth=auth).hide("me: hush-oauth") == "me: ***"


def test_the_longest_is_hidden_first_and_trifles_are_not() -> None:
    assert Concealer(["token", "token-long", "1", ""]).hide("a token-long, a token, 1") == "a ***, a ***, 1"
    assert Concealer(()).hide("all") == "all"
