"""What is remembered of credentials: refusals never replace proofs, and one principal never those of all others."""

import pytest

from gateway_core.api import Principal
from gateway_core.downstream.auth import memory
from gateway_core.downstream.auth.caller import Caller, caller_at
from gateway_core.downstream.auth.memory import Memory, Verdict

REFUSED = Verdict(None, 0.0)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "REMEMBERED", 8)


def proof(name: str, address: str = "192.0.2.1") -> Verdict:
    return Verdict(Caller(address, Principal.proven(name, issuer="keys")), 0.0)


def key(number: int) -> bytes:
    return number.to_bytes(16)


@pytest.mark.parametrize("stranger", [REFUSED, Verdict(caller_at("192.0.2.9"), 0.0)])
def test_strangers_do_not_make_the_gateway_forget_agents(stranger: Verdict) -> None:
    found, alice = Memory(), proof("alice")
    found.put(b"alice", alice)
    for number in range(100):
        found.put(key(number), stranger)
    assert found.get(b"alice") is alice
    assert found.get(key(99)) is stranger
    assert found.get(key(0)) is None
    assert len(found) == 9


def test_the_principal_with_most_proofs_loses_its_least_recently_used_one() -> None:
    found = Memory()
    for name in ("alice", "bob"):
        found.put(name.encode(), proof(name))
    for number in range(100):
        found.put(key(number), proof("mallory", f"198.51.100.{number}"))
        found.used(key(94))
    assert len(found) == 8
    assert all(found.get(name) is not None for name in (b"alice", b"bob", key(94), key(99)))
    found.put(b"carol", proof("carol"))
    assert found.get(key(94)) is not None
    assert len([number for number in range(100) if found.get(key(number)) is not None]) == 5


def test_among_principals_with_one_proof_each_the_bound_holds() -> None:
    found = Memory()
    for number in range(100):
        found.put(key(number), proof(f"p{number}"))
    assert len(found) == 8
    assert found.get(key(99)) is not None


def test_a_verdict_replaces_the_one_before() -> None:
    found = Memory()
    for verdict in (proof("alice"), REFUSED, proof("alice"), proof("alice"), REFUSED):
        found.put(b"key", verdict)
        assert found.get(b"key") is verdict
        assert len(found) == 1
    found.used(b"unknown")
