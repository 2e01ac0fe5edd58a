"""`WWW-Authenticate`, as upstreams write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.upstream.auth import Challenge
from gateway_core.upstream.auth.challenge import MAX_SCOPES


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ([], Challenge()),
        (["Bearer"], Challenge()),
        (["bearer scope=a"], Challenge(scopes=("a",))),
        (['BEARER  Scope = "a b" ,ERROR=invalid_token'], Challenge(error="invalid_token", scopes=("a", "b"))),
        (['Bearer error="insufficient_scope", scope="a"'], Challenge(error="insufficient_scope", scopes=("a",))),
        (['Basic realm="x, Bearer scope=y", Bearer scope="z"'], Challenge(scopes=("z",))),
        (["Negotiate abc==, Bearer scope=z"], Challenge(scopes=("z",))),
        (['Basic realm="x"', "Bearer scope=z"], Challenge(scopes=("z",))),
        (["Bearer scope=a, scope=b"], Challenge(scopes=("a",))),
        (["Bearer scope=a, Bearer scope=b"], Challenge(scopes=("a",))),
        ([r'Bearer resource_metadata="https://a\"b"'], Challenge(resource_metadata='https://a"b')),
        (['Bearer scope=a, resource_metadata="https://unclosed'], Challenge(scopes=("a",))),
        (["DPoP scope=a"], Challenge()),
        (['Bearer x="\x00", scope=a'], Challenge(scopes=("a",))),
    ],
)
def test_what_is_read(headers: list[str], challenge: Challenge) -> None:
    assert Challenge.of(headers) == challenge


@given(st.lists(st.text(alphabet=st.sampled_from('Bearer ="\\,scope\t=a'), max_size=200), max_size=3))
def test_anything_else_is_read_without_failing(headers: list[str]) -> None:
    found = Challenge.of(headers)
    words = " ".join(headers).replace("\\", "").split()
    assert len(found.scopes) == len(set(found.scopes)) <= MAX_SCOPES
    assert all(any(scope in word for word in words) for scope in found.scopes)


def test_a_long_header_is_read_in_one_pass() -> None:
    assert Challenge.of(['Bearer a="' + "\\" * 100_000]) == Challenge()
