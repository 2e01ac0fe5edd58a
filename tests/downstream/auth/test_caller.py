"""The sender of a request, and what belongs to it."""

from typing import Any

from gateway_core.api import Principal
from gateway_core.downstream.agents import principal_of
from gateway_core.downstream.auth.caller import Caller, caller_at


def test_what_belongs_to_a_caller_belongs_to_its_principal_or_its_address() -> None:
    alice = Principal.proven("alice", issuer="keys")
    assert Caller("10.0.0.1", alice).key == Caller("10.0.0.2", alice).key == "alice|keys"
    assert caller_at("10.0.0.1").key == "10.0.0.1"
    assert caller_at("10.0.0.1") is caller_at("10.0.0.1")


def test_no_claimed_name_looks_like_a_proven_one() -> None:
    for name in ("alice|keys", "alice|keys@10.0.0.1", "|", "a|b~c"):
        assert "|" not in principal_of(b'{"name":"%s"}' % name.encode(), caller_at("10.0.0.1")).id
    ids = {principal_of(b'{"name":"%s"}' % name, caller_at("h")).id for name in (b"a|b", b"ab", b"a||b", b"a~b")}
    assert len(ids) == 4


def test_a_proven_principal_keeps_what_its_program_claims_beside_its_identity() -> None:
    caller = Caller("10.0.0.1", Principal.proven("alice", issuer="keys", groups=["staff"]))
    found = principal_of(b'{"name":"bob","version":"2"}', caller)
    assert (found.id, found.groups, found.verified) == ("alice|keys", {"staff"}, True)
    assert (found.client_name, found.client_version, found.address) == ("bob", "2", "10.0.0.1")


def test_callers_prove_the_same_only_with_the_same_rights_and_claims() -> None:
    def caller(**rights: Any) -> Caller:
        return Caller("10.0.0.1", Principal.proven("alice", issuer="keys", **rights))

    assert caller(groups=["a"], claims={"profile": "x"}).proves_same(caller(groups=["a"], claims={"profile": "x"}))
    for other in (caller(), caller(groups=["b"]), caller(groups=["a"], claims={"profile": "y"}), caller_at("10.0.0.1")):
        assert not caller(groups=["a"], claims={"profile": "x"}).proves_same(other)
    assert caller_at("10.0.0.1").proves_same(caller_at("10.0.0.2"))


def test_a_verified_caller_has_its_own_share_wherever_it_calls_from() -> None:
    alice = Principal.proven("alice", issuer="keys")
    assert Caller("10.0.0.1", alice).network == Caller("2001:db8::1", alice).network == "alice|keys"
    assert caller_at("2001:db8::1").network == caller_at("2001:db8::2").network == "2001:db8::/64"
    assert caller_at("10.0.0.1").network == "10.0.0.1"
