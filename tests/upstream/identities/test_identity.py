"""The values that a request gets from its agent: what they are, when they are missing, and which are refused."""

from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.config import UpstreamConfig
from gateway_core.errors import NoIdentity
from gateway_core.exchange.exchange import Agent
from gateway_core.exchange.presented import Presented
from gateway_core.upstream.identities.identity import IdentityRule

CLAIMS: dict[str, Any] = {
    "email": "ada@example.com",
    "n": 7,
    "yes": True,
    "teams": ["b", "a"],
    "deep": {"x": 1},
    "https://example.com/org": "o1",
    "empty": "",
    "two": ["a,b"],
}
ADA = Principal.proven("ada", issuer="https://as.example", groups=["staff", "admins"], claims=CLAIMS)


def agent(principal: Principal = ADA, **headers: str) -> Agent:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Agent(principal, "modern", "2026-07-28", presented=Presented.of(given))


def rule(**forward: str) -> IdentityRule:
    names = {name.replace("_", "-"): source for name, source in forward.items()}
    return IdentityRule(UpstreamConfig(name="t", transport="http", url="http://t/mcp", forward=names), None)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("principal.subject", "ada"),
        ("principal.issuer", "https://as.example"),
        ("principal.id", "ada|https://as.example"),
        ("principal.groups", "admins,staff"),
        ("principal.claims.email", "ada@example.com"),
        ("principal.claims.n", "7"),
        ("principal.claims.yes", "true"),
        ("principal.claims.teams", "b,a"),
        ("principal.claims.https://example.com/org", "o1"),
        ("header:X-Tracker-Key", "k1"),
    ],
)
def test_each_source_gives_its_value(source: str, value: str) -> None:
    found = rule(X_Value=source).identity(agent(x_tracker_key="k1"))
    assert found.headers == {"X-Value": value}
    assert "k1" not in repr(found)


@pytest.mark.parametrize(
    "source", ["principal.claims.none", "principal.claims.empty", "principal.claims.email?", "header:X-Other"]
)
def test_a_missing_value_refuses_unless_it_is_optional(source: str) -> None:
    unknown = Principal.proven("ada", issuer="x", claims={"empty": ""})
    if source.endswith("?"):
        assert rule(X_Value=source).identity(agent(unknown)).headers == {}
    else:
        with pytest.raises(NoIdentity, match="which this upstream gets as X-Value"):
            rule(X_Value=source).identity(agent(unknown))


@pytest.mark.parametrize("source", ["subject", "issuer", "id", "groups", "claims.email"])
def test_nothing_of_an_unverified_principal_is_forwarded(source: str) -> None:
    claimed = Principal("ada|as", subject="ada", issuer="as", groups=frozenset({"g"}), claims={"email": "e"})
    with pytest.raises(NoIdentity, match="not verified who calls"):
        rule(X_Value=f"principal.{source}").identity(agent(claimed))
    assert rule(X_Value=f"principal.{source}?").identity(agent(claimed)).headers == {}


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\0b", "ä", "\udcff", "a\x7f", " a", "x" * 8193])
def test_a_value_that_no_header_may_have_is_refused_and_not_quoted(value: str) -> None:
    with pytest.raises(NoIdentity, match="longer than 8192 or has characters") as caught:
        rule(X_Value="header:X-Key").identity(agent(x_key=value))
    assert value not in str(caught.value)
    principal = Principal.proven("ada", issuer="x", claims={"c": value})
    with pytest.raises(NoIdentity):
        rule(X_Value="principal.claims.c").identity(agent(principal))


@pytest.mark.parametrize(("claim", "why"), [("deep", "neither text"), ("two", "with a comma")])
def test_a_claim_that_is_no_text_is_refused(claim: str, why: str) -> None:
    with pytest.raises(NoIdentity, match=why):
        rule(X_Value=f"principal.claims.{claim}").identity(agent())


def test_a_group_with_a_comma_does_not_become_two() -> None:
    with pytest.raises(NoIdentity, match="with a comma"):
        rule(X_Value="principal.groups").identity(agent(Principal.proven("ada", issuer="x", groups=["a,admins"])))


def test_the_key_differs_for_other_principals_and_values_alone() -> None:
    made = rule(X_Key="header:X-Key?", X_Mail="principal.claims.email?")
    first = made.identity(agent(x_key="one"))
    assert made.identity(agent(x_key="one")).key == first.key
    others = [
        agent(x_key="two"),
        agent(),
        agent(Principal.proven("ben", issuer="https://as.example", claims=CLAIMS), x_key="one"),
        agent(Principal.proven("ada", issuer="https://as.example", claims={"email": "x"}), x_key="one"),
    ]
    assert len({made.identity(it).key for it in others} | {first.key}) == 5
    assert "one" not in first.key
