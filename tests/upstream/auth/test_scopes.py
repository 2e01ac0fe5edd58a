"""Which scopes a token is asked for, and what becomes of a request that needs more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway_core.upstream.auth import Challenge


@pytest.fixture
def ready(world: Any) -> Any:
    world.protect(scopes_supported=["basic", "profile"])
    world.authority.publish(scopes_supported=["admin"])
    return world


def asked(world: Any) -> list[str | None]:
    return [form.get("scope") for form in world.authority.forms]


async def test_the_challenge_comes_before_what_is_supported(ready: Any) -> None:
    ready.resource.challenge = {"scope": "read write read"}
    assert await ready.status(ready.client()) == 200
    assert asked(ready) == ["read write"]


async def test_without_scopes_in_the_challenge_those_supported_are_asked_for(ready: Any) -> None:
    assert await ready.status(ready.client()) == 200
    assert asked(ready) == ["basic profile"]


async def test_without_scopes_of_challenge_and_metadata_none_are_asked_for(world: Any) -> None:
    world.protect()
    world.authority.publish(scopes_supported=["admin"])
    assert await world.status(world.client()) == 200
    assert asked(world) == [None]


@pytest.mark.parametrize("scope", ['a\\"b', "ä", "x" * 300, " ".join(map(str, range(65)))])
async def test_malformed_scopes_are_none(ready: Any, scope: str) -> None:
    ready.resource.challenge = {"scope": scope}
    assert await ready.status(ready.client()) == 200
    assert asked(ready) == ["basic profile"]


async def test_configured_scopes_are_all_that_is_ever_asked_for(ready: Any) -> None:
    ready.resource.challenge = {"scope": "read"}
    ready.resource.needs = {"admin"}
    client = ready.client(scope="one two")
    assert [await ready.status(client) for _ in range(3)] == [403, 403, 403]
    assert asked(ready) == ["one two"]


async def test_more_scopes_are_asked_for_beside_those_of_before(ready: Any) -> None:
    client = ready.client()
    assert await ready.status(client) == 200
    ready.resource.needs = {"write"}
    assert await ready.status(client) == 200
    assert asked(ready) == ["basic profile", "basic profile write"]
    assert ready.resource.used == ["", "Bearer token-1", "Bearer token-1", "Bearer token-2"]
    assert ready.authority.asked.count("/.well-known/oauth-authorization-server") == 1


async def test_renewals_keep_the_scopes(ready: Any, clock: Callable[[float], None]) -> None:
    client = ready.client()
    assert await ready.status(client) == 200
    ready.resource.needs = {"write"}
    assert await ready.status(client) == 200
    clock(4000)
    assert await ready.status(client) == 200
    assert asked(ready) == ["basic profile", "basic profile write", "basic profile write"]


async def test_scopes_that_were_granted_and_do_not_suffice_end_it(ready: Any) -> None:
    ready.authority.grants = False
    ready.resource.needs = {"write"}
    client = ready.client()
    assert [await ready.status(client) for _ in range(4)] == [403] * 4
    assert len(ready.authority.forms) == 2


async def test_a_request_is_repeated_once_whatever_the_upstream_says(ready: Any) -> None:
    ready.resource.insatiable = True
    client = ready.client()
    assert await ready.status(client) == 403
    assert ready.resource.used == ["", "Bearer token-1"], "a 401, then a 403"
    assert await ready.status(client) == 403
    assert ready.resource.used[2:] == ["Bearer token-1", "Bearer token-2"]
    assert len(ready.authority.forms) == 2


async def test_the_scopes_of_a_token_are_bounded(ready: Any) -> None:
    ready.resource.insatiable = True
    client = ready.client()
    for _ in range(80):
        assert await ready.status(client) == 403
    assert max(len(scope.split()) for scope in asked(ready) if scope) == 64
    assert len(ready.authority.forms) < 70


async def test_a_step_up_that_is_denied_leaves_the_token_to_others(
    ready: Any, clock: Callable[[float], None], logged: list[str]
) -> None:
    client = ready.client()
    assert await ready.status(client) == 200
    ready.authority.refuses = (400, "invalid_scope")
    ready.resource.needs = {"admin"}
    assert [await ready.status(client) for _ in range(5)] == [403] * 5
    assert asked(ready) == ["basic profile", "basic profile admin"]  # then it is left alone for a while
    assert any("invalid_scope" in line for line in logged)
    ready.resource.needs = set()
    assert await ready.status(client) == 200
    ready.authority.refuses = None
    clock(3600)
    assert await ready.status(client) == 200
    assert asked(ready)[-1] == "basic profile"


async def test_many_requests_step_up_once(ready: Any) -> None:
    client = ready.client()
    assert await ready.status(client) == 200
    ready.resource.needs = {"write"}
    assert set(await asyncio.gather(*[ready.status(client) for _ in range(10)])) == {200}
    assert len(ready.authority.forms) == 2


async def test_a_403_to_a_token_that_was_replaced_meanwhile_is_tried_again(ready: Any) -> None:
    client = ready.client()
    assert await ready.status(client) == 200
    ready.resource.needs = {"write"}
    assert await ready.status(client) == 200
    late = Challenge(error="insufficient_scope", scopes=("write",))
    assert await client.tokens.challenged("Bearer token-1", 403, late)
    assert not await client.tokens.challenged("Bearer token-2", 403, late)
    assert len(ready.authority.forms) == 2


async def test_a_403_for_other_reasons_is_final(ready: Any) -> None:
    client = ready.client()
    assert await ready.status(client) == 200
    ready.resource.documents["/forbidden"] = forbidden
    assert await ready.status(client, "/forbidden") == 403
    assert len(ready.authority.forms) == 1


async def forbidden(request: Any) -> Any:
    from aiohttp import web

    return web.Response(status=403, headers={"WWW-Authenticate": 'Bearer error="invalid_token", scope="admin"'})


async def test_a_configured_token_url_steps_up_too(world: Any) -> None:
    world.authority.publish()
    world.resource.needs = {"write"}
    assert await world.status(world.client(token_url=f"{world.authority.origin}/token")) == 200
    assert asked(world) == [None, "write"]
    assert world.resource.asked == []
