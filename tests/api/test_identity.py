"""Principals and credentials."""

from typing import Any

import pytest

from gateway_core.api import Credentials, Principal


def test_the_id_of_a_proven_principal_differs_for_different_subjects_and_issuers() -> None:
    given = [("a", "b"), ("a|b", "c"), ("a", "c"), ("b", "a"), ("a@127.0.0.1", "keys"), ("a", "keys")]
    assert len({Principal.proven(subject, issuer=issuer).id for subject, issuer in given}) == len(given)


def test_the_claims_of_a_principal_are_a_copy_that_cannot_be_changed() -> None:
    given = {"roles": ["a"]}
    principal = Principal.proven("alice", issuer="keys", claims=given)
    given["roles"].append("b")
    assert principal.claims == {"roles": ["a"]}
    with pytest.raises(TypeError):
        principal.claims["roles"].append("b")
    with pytest.raises(TypeError, match="must be a dict, not a list"):
        Principal.proven("alice", issuer="keys", claims=["a"])  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [{"groups": "admins"}, {"scopes": "read write"}, {"groups": b"admins"}])
def test_one_text_is_no_collection_of_names(names: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"the {next(iter(names))} must be several texts, such as a list, not a "):
        Principal.proven("alice", issuer="keys", **names)


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("Bearerabc", None),
        ("", None),
    ],
)
def test_the_bearer_token_is_read_as_rfc_6750_writes_it(authorization: str, token: str | None) -> None:
    assert Credentials({"authorization": authorization}).bearer == token


def test_credentials_without_the_header_have_no_token() -> None:
    assert Credentials().bearer is None
