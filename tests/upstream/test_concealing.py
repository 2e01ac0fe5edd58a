"""What the configuration gives a server as a secret is hidden in what the server says."""

from typing import Any

import pytest
from loguru import logger

from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.config.models import AuthConfig
from gateway_core.upstream.concealing import Concealer, held_secrets


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
            assert concealer.hide(f"cannot log in with {said}: 401") == "cannot log in with [REDACTED]: 401"


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
    assert stdio(A="hush-env", B="on").hide("hush-env is on") == "[REDACTED] is on"
    concealer = http(headers={"Authorization": "Bearer hush-head", "X-Key": "hush-key"})
    assert concealer.hide("not hush-head, Bearer hush-head, hush-key") == "not [REDACTED], [REDACTED], [REDACTED]"
    assert http("http://localhost:1/mcp?api=hush-query").hide("bad hush-query") == "bad [REDACTED]"
    auth = AuthConfig.model_validate({"client_id": "me", "client_secret": "hush-oauth"})
    assert http(auth=auth).hide("me: hush-oauth") == "me: [REDACTED]"


def test_the_longest_is_hidden_first_and_short_values_are_not() -> None:
    concealer = Concealer(["hushed", "hushed-long", "token", "1", ""])
    text = "a [REDACTED], a [REDACTED], token, 1"
    assert concealer.hide("a hushed-long, a hushed, token, 1") == text
    assert Concealer(()).hide("all") == "all"


SECRET = "ghp_hu5hAbC9dEfGh1JkLmN0pQrStUvWxYz27aBc"


@pytest.mark.parametrize(
    "said",
    [
        f"bad {SECRET[:12]}... given",
        f"bad ...{SECRET[-12:]} given",
        f"bad {SECRET[9:22]} given",
        f"bad {SECRET[:20]}\\ given",
        f"bad {SECRET!r} given",
        f"bad {SECRET[:20]} and {SECRET[20:]} given",
    ],
)
def test_parts_of_a_secret_are_hidden_to_their_ends(said: str) -> None:
    shown = Concealer([SECRET]).hide(said)
    assert shown.startswith("bad ")
    assert shown.endswith(" given")
    assert "[REDACTED]" in shown
    assert not any(SECRET[at : at + 4] in shown for at in range(len(SECRET) - 3))


def test_only_a_whole_value_is_hidden_if_it_is_no_secret() -> None:
    concealer = Concealer([], ["/home/jane/project"])
    assert concealer.hide("in /home/jane/project/x, /home/jane/pro") == "in [REDACTED]/x, /home/jane/pro"


def test_a_value_that_begins_in_the_line_before_is_hidden() -> None:
    concealer = Concealer([], ["hush-12345"])
    assert concealer.hide("12345 and more", "token hush-") == "[REDACTED] and more"
    assert concealer.hide("no 12345", "token hush-") == "no 12345"


def test_every_value_of_the_environment_and_of_headers_is_hidden_from_operators() -> None:
    assert stdio(TZ="Europe/Oslo").hide("in Europe/Oslo") == "in [REDACTED]"
    assert http(headers={"X-Tenant": "acme-corp"}).hide("no acme-corp") == "no [REDACTED]"


async def test_the_first_secret_of_an_upstream_that_is_hidden_from_agents_is_logged() -> None:
    upstream = UpstreamConfig(name="a", transport="stdio", command="x", env={"API_KEY": SECRET})
    held = held_secrets(ProxyConfig(upstreams=(upstream,)), "the-admin-token-1")
    seen: list[dict[str, Any]] = []
    sink = logger.add(lambda message: seen.append(message.record["extra"]), level="WARNING")
    try:
        for _ in range(2):
            assert held.clean(b'"%b"' % SECRET.encode(), "files") == b'"[REDACTED]"'
    finally:
        logger.remove(sink)
    assert seen == [{"upstream": "files", "secret": "env.API_KEY of upstream a"}]
    assert held.clean_line(b"the-admin-token-1") == b"[REDACTED]"
