"""The forms in which trace context goes along with a request, and what it replaces."""

import json
from typing import Any

import pytest
from msgspec import Raw

from gateway_core.exchange.hops import Carried
from gateway_core.testing import make_upstream
from gateway_core.upstream.requests import Request

PARENT = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


def test_the_context_is_made_once_in_each_form() -> None:
    carried = Carried.of({"traceparent": PARENT, "tracestate": 'a=1,b="\\'})
    assert carried.headers == {"traceparent": PARENT, "tracestate": 'a=1,b="\\'}
    assert carried.lines == f'traceparent: {PARENT}\r\ntracestate: a=1,b="\\\r\n'.encode()
    assert json.loads(b"{" + carried.members[:-1] + b"}") == carried.headers


@pytest.mark.parametrize(
    ("meta", "left"),
    [
        (None, None),
        ({"a": 1}, {"a": 1}),
        ({"traceparent": Raw(b'"00-1"'), "a": 1}, {"a": 1}),
        ({"tracestate": Raw(b'"x=1"')}, {}),
    ],
)
def test_the_context_of_the_agent_is_replaced_and_other_keys_stay(meta: Any, left: Any) -> None:
    request = Request("tools/call", {}, meta)
    request.carry(Carried.of({"traceparent": PARENT}))
    assert request.meta == left


def test_each_attempt_of_a_request_carries_the_context_of_its_own() -> None:
    request = Request("tools/call", {}, {"a": 1, "traceparent": "00-1"})
    for number in (1, 2):
        request.carry(Carried.of({"traceparent": f"00-{number}"}))
        assert request.complete_meta == {"a": 1, "traceparent": f"00-{number}"}


async def test_what_passes_is_sent_and_nothing_is_measured() -> None:
    carried, request = Carried.of({"traceparent": PARENT}), Request("tools/call", {})

    async def send(given: Request) -> str:
        return str(given.carried.headers["traceparent"])

    assert await carried.hop(make_upstream(), request, send) == PARENT
