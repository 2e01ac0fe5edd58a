"""What agents declare: which questions they can be asked, and that little of it is remembered."""

import tracemalloc

import pytest

from gateway_core.api import Principal
from gateway_core.exchange.exchange import Agent
from gateway_core.upstream import capabilities


def test_large_capabilities_are_passed_on_and_not_remembered() -> None:
    def declare(number: int) -> None:
        padding = b"x" * 500_000
        declared = b'{"roots":{},"experimental":{"%d":{"padding":"%b"}}}' % (number, padding)
        agent = Agent(Principal("a"), "modern", "2026-07-28", capabilities=declared)
        assert "experimental" in capabilities.declared_by(agent)
        assert padding in bytes(capabilities.for_modern(agent))

    declare(0)
    tracemalloc.start()
    try:
        for number in range(1, 20):
            declare(number)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


@pytest.mark.parametrize(
    ("declared", "only"),
    [
        (b'{"elicitation":{"url":{}}}', True),
        (b'{"elicitation":{"url":{},"form":{}}}', False),
        (b'{"elicitation":{"form":{}}}', False),
        (b'{"elicitation":{}}', False),
        (b"{}", False),
        (b'{"elicitation":["url"]}', False),
    ],
)
def test_a_client_that_opens_urls_and_shows_no_forms(declared: bytes, only: bool) -> None:
    agent = Agent(Principal("a"), "modern", "2026-07-28", capabilities=declared)
    assert capabilities.opens_urls_only(agent) is only
