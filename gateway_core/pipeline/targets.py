"""Finds the target of a request that has no plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway_core.catalog import Catalog, Target
from gateway_core.exchange.exchange import Exchange
from gateway_core.mcp.names import LISTS, TASKS
from gateway_core.mcp.sdk import SDK
from gateway_core.pipeline.params import Params, find
from gateway_core.pipeline.router import is_untried


async def find_in_time(
    catalog: Catalog, exchange: Exchange, params: Params, wait_first_lists: Callable[..., Awaitable[bool]]
) -> Target | None:
    """The target of a request; None if no upstream serves the name, and for lists.

    `wait_first_lists`: see `Common`. Loads what a target needs whose arguments are mirrored in headers.
    """
    target = await _found(catalog, exchange, params, wait_first_lists)
    if target is not None and target.mirrored:
        await SDK.load()
    return target


async def _found(
    catalog: Catalog, exchange: Exchange, params: Params, wait_first_lists: Callable[..., Awaitable[bool]]
) -> Target | None:
    method, agent = exchange.method, exchange.agent
    if catalog.snapshot.private or agent.principal.profile:
        await catalog.prepare(exchange)
    target = find(catalog, method, params.name, agent, params)
    # Tasks may be older than this process.
    if target is not None and method not in TASKS and not is_untried(target):
        return target
    # Shortly after the start, an upstream that was not tried yet may still serve it. A rebuild may bring it, too.
    waiting = wait_first_lists(target.upstreams if target else (), listing=method in LISTS)
    waited = await (waiting if exchange.hops is None else exchange.hops.wait("", "lists", waiting))
    if not (waited | await catalog.settled()):
        return target
    await catalog.prepare(exchange)
    return find(catalog, method, params.name, agent, params)
