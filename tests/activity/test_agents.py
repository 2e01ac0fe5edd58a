"""The agents of which calls were recorded lately."""

from __future__ import annotations

from gateway_core.activity.agents import MAX_AGENTS, MAX_CLIENTS, SeenAgents
from gateway_core.api import Principal
from gateway_core.exchange.exchange import Agent
from gateway_core.exchange.presented import Presented


def test_the_agents_that_are_remembered_are_bounded_and_those_seen_last_stay() -> None:
    seen = SeenAgents()
    for number in [*range(MAX_AGENTS), 0, *range(MAX_AGENTS, MAX_AGENTS + 5)]:
        seen.note(Agent(Principal(f"agent{number}"), "modern", "2026-07-28"))
    assert seen.find("agent0") is not None
    assert seen.find("agent1") is None
    found = seen.find(f"agent{MAX_AGENTS + 4}")
    assert found is not None
    assert found.principal.id == f"agent{MAX_AGENTS + 4}"


def test_an_agent_is_remembered_with_the_groups_of_its_last_request() -> None:
    seen = SeenAgents()
    for group in ("dev", "ops"):
        seen.note(Agent(Principal("alice|keys", verified=True, groups=frozenset({group})), "modern", "2026-07-28"))
    found = seen.find("alice|keys")
    assert found is not None
    assert found.principal.groups == {"ops"}


def test_an_agent_is_remembered_with_the_lists_and_the_session_of_its_last_request() -> None:
    seen, principal = SeenAgents(), Principal("alice|keys", verified=True)
    for secret, session in (("one", "a"), ("two", "a"), ("two", "b")):
        presented = Presented.of({"x-github-token": secret})
        agent = Agent(principal, "legacy", "2025-11-25", session_key=session, presented=presented)
        seen.note(agent)
        found = seen.find("alice|keys")
        assert found is not None
        assert (found.viewer, found.session) == (agent.viewer, session)


def test_the_clients_of_an_agent_are_remembered_and_bounded() -> None:
    seen = SeenAgents()

    def note(name: str, version: str = "") -> None:
        principal = Principal("alice|keys", verified=True, client_name=name, client_version=version)
        seen.note(Agent(principal, "modern", "2026-07-28"))

    for name, version in (("a", "1"), ("", ""), ("b", ""), ("a", "1")):
        note(name, version)
    [found] = seen
    assert found.clients == ("a 1", "b")
    for number in range(MAX_CLIENTS):
        note("c", str(number))
    [found] = seen
    assert found.clients == tuple(f"c {number}" for number in range(MAX_CLIENTS))
