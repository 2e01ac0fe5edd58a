"""The settings of `auth_jwt`: what is accepted, and what the operator reads otherwise."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import trustme
from gateway_auth_jwt.plugin import Jwt
from gateway_auth_jwt.settings import Settings
from pydantic import ValidationError

from gateway_core.testing import configured

AUDIENCE = "https://gateway.example.com/mcp"


def settings(issuer: dict[str, Any] | None = None, **changes: Any) -> Settings:
    table = {"issuer": "https://login.example.com", **(issuer or {})}
    return Settings(**{"audience": AUDIENCE, "issuers": [table], **changes})


def test_audience_and_issuer_are_enough() -> None:
    (issuer,) = settings().issuers
    assert issuer.algorithms == ("RS256", "PS256", "ES256", "EdDSA")
    assert issuer.scopes_from == (("scope",), ("scp",))
    assert configured(Jwt, audience=AUDIENCE, issuers=[{"issuer": "https://login.example.com"}]).name == "auth_jwt"


def test_a_claim_is_named_by_a_text_and_a_member_by_a_list() -> None:
    (issuer,) = settings({"groups_from": ["https://a.example/groups", ["realm_access", "roles"]]}).issuers
    assert issuer.groups_from == (("https://a.example/groups",), ("realm_access", "roles"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"audience": ...}, "Field required"),
        ({"audience": "gateway"}, "https URL"),
        ({"audience": "http://gateway.example.com/mcp"}, "http is possible for 127"),
        ({"audience": "https://gateway.example.com/mcp/"}, "without a slash at the end"),
        ({"audience": "https://gateway.example.com/mcp?a=b"}, "without query"),
        ({"audience": "https://gateway.example.com/mcp#a"}, "without user and fragment"),
        ({"audience": "https://user@gateway.example.com/mcp"}, "without user and fragment"),
        ({"issuers": ...}, "Field required"),
        ({"audience": "https://gateway.example.com/m cp"}, "https URL"),
        ({"issuers": []}, "at least one is needed"),
        ({"issuers": [{"issuer": "https://a.example"}] * 2}, "has two tables"),
        ({"issuers": [{"issuer": "https://a.example", "algorithms": ["HS256"]}]}, "Input should be 'RS256'"),
        ({"issuers": [{"issuer": "https://a.example", "algorithms": ["none"]}]}, "Input should be 'RS256'"),
        ({"issuers": [{"issuer": "https://a.example", "algorithms": []}]}, "at least 1 item"),
        ({"issuers": [{"issuer": "https://a.example", "groups_from": [[]]}]}, "at least 1 item"),
        ({"issuers": [{"issuer": "https://a.example", "groups_from": [5]}]}, "valid tuple"),
        ({"issuers": [{"issuer": "https://a.example", "clients": []}]}, "Extra inputs are not permitted"),
        ({"issuers": [{"issuer": "http://a.example"}]}, "https URL"),
        ({"issuers": [{"issuer": "http://10.0.0.1"}]}, "https URL"),
        ({"issuers": [{"issuer": "https://a.example?b=c"}]}, "no query"),
        ({"issuers": [{"issuer": "https://a.example/b|c"}]}, r"no \|"),
        ({"issuers": [{"issuer": "https://a.example", "jwks_uri": "http://a.example/keys"}]}, "https URL"),
        ({"issuers": [{"issuer": "https://a.example", "jwks_file": ""}]}, "must not be empty"),
        ({"issuers": [{"issuer": "https://a.example", "jwks_file": "/does/not/exist"}]}, "No such file"),
        (
            {"issuers": [{"issuer": "https://a.example", "ca": "/does/not/exist"}]},
            "/does/not/exist: cannot be read: No",
        ),
        ({"issuers": [{"issuer": "https://a.example", "ca": __file__}]}, f"{__file__}: holds no certificate"),
        ({"issuers": [{"issuer": "https://a.example", "jwks_file": __file__}]}, "not a well-formed JSON object"),
        ({"required_scopes": ["a b"]}, "match pattern"),
        ({"required_scopes": ['a"']}, "match pattern"),
        ({"advertised_scopes": ["a\r\nX: y"]}, "match pattern"),
        ({"leeway": -1}, "greater than or equal to 0"),
        ({"leeway": 301}, "less than or equal to 300"),
        ({"leeway": float("nan")}, "finite number"),
    ],
)
def test_settings_that_are_not_valid_stop_the_start(changes: dict[str, Any], reason: str) -> None:
    given: dict[str, Any] = {"audience": AUDIENCE, "issuers": [{"issuer": "https://a.example"}], **changes}
    with pytest.raises(ValidationError, match=reason):
        Settings(**{name: value for name, value in given.items() if value is not ...})


def test_a_file_of_keys_excludes_what_asks_a_server(authority: Any, tmp_path: Path) -> None:
    path = authority.write(tmp_path)
    assert settings({"jwks_file": path}).issuers[0].jwks_file == path
    with pytest.raises(ValidationError, match="remove jwks_uri and ca"):
        settings({"jwks_file": path, "jwks_uri": "https://login.example.com/keys"})


@pytest.mark.parametrize("key", ["jwks_file", "ca"])
def test_a_file_that_every_user_may_change_is_refused(
    authority: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.delenv("RADIUM_TRUST_CONFIG", raising=False)
    path = authority.write(tmp_path) if key == "jwks_file" else tmp_path / "ca.pem"
    if key == "ca":
        trustme.CA().cert_pem.write_to_path(str(path))
    assert getattr(settings({key: path}).issuers[0], key) == path
    path.chmod(0o666)
    with pytest.raises(ValidationError, match="every user of this machine may write to it; run: chmod o-w"):
        settings({key: path})


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:8080", "http://[::1]/realms/a", "http://localhost:9000/"])
def test_an_issuer_on_this_machine_may_use_http(issuer: str) -> None:
    assert settings({"issuer": issuer}).issuers[0].issuer == issuer


@pytest.mark.parametrize("page", ["plugins/auth_jwt/README.md", "docs/oidc.md"])
def test_every_example_of_the_documentation_is_valid(page: str) -> None:
    text = (Path(__file__).parents[3] / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    tables = [
        table
        for block in blocks
        for table in tomllib.loads(block)["mcp"]["proxy"]["plugins"]
        if table.pop("name") == "auth_jwt"
    ]
    assert len(tables) == len(blocks)
    for table in tables:
        Settings(**table)
