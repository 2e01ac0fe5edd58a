"""Each odd client against a gateway: it gets what is right for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.field import kinds
from tests.field.clients import headers, http, messages, sessions
from tests.field.clients.raw import CLIENTS, OddClient
from tests.field.conftest import until

MODULES = (messages, sessions, headers, http)
USUAL = next(odd for odd in kinds.servers() if odd.name == "usual-plain")


@pytest.mark.parametrize("client", CLIENTS, ids=str)
async def test_an_odd_client_gets_what_is_right(
    client: OddClient, urls: dict[str, str], start: Callable[..., Any]
) -> None:
    gateway = await start([USUAL.upstream(urls)], limits={"sessions_per_principal": sessions.SESSIONS})
    await until(lambda: gateway.ready, "the gateway is ready")
    assert await asyncio.to_thread(client.talk, gateway.config.proxy.port) == client.right


def test_every_client_is_marked() -> None:
    names = {client.talk.__module__ for client in CLIENTS}
    assert names == {module.__name__ for module in MODULES}
