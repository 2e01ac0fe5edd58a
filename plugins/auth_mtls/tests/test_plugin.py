"""Which certificates prove which principal."""

import time
from typing import Any

import pytest
from gateway_auth_mtls.plugin import MutualTls
from pydantic import ValidationError

from gateway_core import ClientCertificate, Known, Principal, Reject
from gateway_core.testing import configured, make_credentials, run_hook

AGENT = ClientCertificate(
    "CN=alice,OU=Agents,O=Example",
    (
        "DNS:Build.Agents.Example.com",
        "DNS:build.example.com",
        "URI:spiffe://example.org/ns/tools/sa/build",
        "email:alice@example.org",
        "IP:192.0.2.1",
    ),
    "ab" * 32,
    time.time() + 3600,
)


def judge(certificate: ClientCertificate | None, **settings: Any) -> Any:
    plugin = configured(MutualTls, **settings).instance
    return run_hook(plugin, "authenticate", make_credentials(certificate=certificate))


def subject_of(certificate: ClientCertificate, **settings: Any) -> str | None:
    found = judge(certificate, **settings)
    assert isinstance(found, Principal | Reject)
    return found.subject if isinstance(found, Principal) else None


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("subject", "CN=alice,OU=Agents,O=Example"),
        ("dns", "build.agents.example.com"),
        ("uri", "spiffe://example.org/ns/tools/sa/build"),
        ("email", "alice@example.org"),
    ],
)
def test_the_subject_is_the_part_that_the_settings_name(kind: str, subject: str) -> None:
    found = judge(AGENT, subject=kind)
    assert found == Principal.proven(subject, issuer="auth_mtls", expires=AGENT.expires)
    assert found.verified
    assert found.claims == {"subject": AGENT.subject, "names": list(AGENT.names), "fingerprint": AGENT.fingerprint}


def test_the_distinguished_name_is_the_default() -> None:
    assert subject_of(AGENT) == AGENT.subject


def test_without_a_certificate_the_next_plugin_is_asked() -> None:
    assert judge(None) is None


@pytest.mark.parametrize("kind", ["subject", "dns", "uri", "email"])
def test_a_certificate_without_that_part_proves_nothing(kind: str) -> None:
    found = judge(ClientCertificate("", ("IP:192.0.2.1",)), subject=kind)
    assert isinstance(found, Reject)
    assert "that names the agent" in found.message


@pytest.mark.parametrize("name", ["", "x" * 513, "a\nb", "a\x00b"])
def test_a_name_that_is_no_subject_does_not_count(name: str) -> None:
    assert subject_of(ClientCertificate("", (f"DNS:{name}",)), subject="dns") is None
    assert subject_of(ClientCertificate("", (f"DNS:{name}", "DNS:b")), subject="dns") == "b"


@pytest.mark.parametrize(
    ("kind", "pattern", "subject"),
    [
        ("dns", "*.example.com", "build.example.com"),  # the first that is allowed
        ("dns", "*.AGENTS.example.com", "build.agents.example.com"),
        ("dns", "**.example.com", "build.agents.example.com"),
        ("dns", "example.com", None),
        ("dns", "*", None),
        ("uri", "spiffe://example.org/ns/*/sa/build", "spiffe://example.org/ns/tools/sa/build"),
        ("uri", "spiffe://example.org/*/build", None),
        ("uri", "spiffe://example.org/**", "spiffe://example.org/ns/tools/sa/build"),
        ("uri", "SPIFFE://example.org/**", None),
        ("uri", "spiffe://example.org/ns/tools/sa/buil?", "spiffe://example.org/ns/tools/sa/build"),
        ("uri", "spiffe://example.org/ns/tools?sa/build", None),
        ("email", "*@example.org", "alice@example.org"),
        ("email", "*", None),
        ("subject", "CN=*,OU=Agents,O=Example", "CN=alice,OU=Agents,O=Example"),
        ("subject", "CN=*,O=Example", None),
        ("subject", "CN=alice", None),
        ("subject", "**", "CN=alice,OU=Agents,O=Example"),
    ],
)
def test_only_allowed_subjects_are_proven(kind: str, pattern: str, subject: str | None) -> None:
    assert subject_of(AGENT, subject=kind, allow=(pattern,)) == subject


@pytest.mark.parametrize(
    "name",
    [
        r"CN=eve,O=Evil\,O=Example",
        "CN=eve+OU=x,O=Example",
        r"CN=eve\,x,O=Example",
        "CN=eve,O=Example,O=Evil",
        "CN=,O=X",
    ],
)
def test_a_chosen_name_does_not_reach_across_the_parts_of_a_pattern(name: str) -> None:
    assert subject_of(ClientCertificate(name), allow=("CN=*,O=Example",)) is None


def test_characters_of_regular_expressions_stand_for_themselves() -> None:
    assert subject_of(ClientCertificate("CN=a.b[c]|d"), allow=("CN=a.b[c]|d",)) == "CN=a.b[c]|d"
    assert subject_of(ClientCertificate("CN=aXb"), allow=("CN=a.b", "CN=[a-z]*")) is None


def test_a_refusal_names_the_subject_in_one_line() -> None:
    found = judge(AGENT, allow=["CN=bob"])
    assert isinstance(found, Reject)
    assert found.message == "allow matches no name of the client certificate: 'CN=alice,OU=Agents,O=Example'"


def test_groups_of_all_patterns_that_match_are_joined() -> None:
    groups = {
        "spiffe://example.org/**": ("agents",),
        "spiffe://example.org/ns/tools/sa/*": ("tools", "agents"),
        "spiffe://other.org/**": ("others",),
    }
    found = judge(AGENT, subject="uri", groups=groups)
    assert found.groups == {"agents", "tools"}
    assert judge(AGENT, subject="uri").groups == frozenset()


@pytest.mark.parametrize(
    "settings",
    [
        {"subject": "cn"},
        {"allow": ()},
        {"allow": ("",)},
        {"groups": {"": ("x",)}},
        {"groups": {"x": ("",)}},
        {"groups": {"x": "y"}},
        {"allowed": ("x",)},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        configured(MutualTls, **settings)


def test_the_groups_of_all_certificates_are_known() -> None:
    plugin = configured(MutualTls, groups={"CN=a": ["dev", "ops"], "CN=b": ["dev"]}).instance
    assert getattr(plugin, "known_groups") == {"dev", "ops"}  # noqa: B009 - the instance has no type here


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("subject", "CN=*,O=Example", "alice"),
        ("dns", "*.example.com", "CN=alice"),
        ("uri", "spiffe://example.org/*", "example.org"),
        ("email", "*@example.org", "alice.example.org"),
    ],
)
def test_a_glob_that_matches_no_subject_of_its_kind_is_noted(kind: str, good: str, bad: str) -> None:
    plugin = configured(MutualTls, subject=kind, allow=[good, bad], groups={good: ["ops"]}).instance
    assert [note.setting for note in plugin.notes(Known(frozenset()))] == ["allow[1]"]


def test_groups_of_a_subject_that_is_not_allowed_are_noted() -> None:
    groups = {"A.example.com": ["ops"], "b.example.net": ["ops"], "*.example.net": ["ops"]}
    plugin = configured(MutualTls, subject="dns", allow=["*.example.com"], groups=groups).instance
    (note,) = plugin.notes(Known(frozenset()))
    assert note.message == '"b.example.net" matches no agent, because allow does not match it'


def test_groups_without_a_name_are_refused() -> None:
    with pytest.raises(ValidationError):
        configured(MutualTls, groups={"CN=a": []})
