"""Resource subscriptions of one agent, by the URIs that agents see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from loguru import logger
from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.catalog import Target
from gateway_core.catalog.current import CurrentCatalog
from gateway_core.downstream.subscriptions.asking import Ask
from gateway_core.errors import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    UPSTREAM_UNAVAILABLE,
    DeliveryError,
    NotSent,
    RpcError,
    copied,
    overloaded,
    retry_after,
)
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import SUBSCRIBE
from gateway_core.upstream.notifications.subscription import announces_updates
from gateway_core.upstream.upstream import Upstream

MAX_WATCHED: Final = 256
"""Maximum number of watched resources in one session or one listen request."""
MAX_URI: Final = 8192
"""Maximum length of a URI, in characters."""
WATCH_TIMEOUT: Final = 5.0
"""Total seconds to wait for the upstreams of one resource."""


class Watched:
    """The resources that one agent watches. The owner must call `close`."""

    def __init__(self, catalog: CurrentCatalog, agent: Agent, call: Ask, tell: Callable[[str], None]) -> None:
        """`call` puts each subscription through the pipeline, as a `resources/subscribe`.

        `tell` is called with the URI of each updated resource: a watched one, or one below it.
        """
        self._catalog = catalog
        self._agent = agent
        self._call = call
        self._tell = tell
        self._held: dict[str, asyncio.Future[Callable[[], None]]] = {}
        """URI -> the function that releases it, set once the upstream has agreed."""
        self._below: dict[str, bool] = {}
        """URI of a resource that was not judged when it was watched -> whether the plugins let the agent watch it."""
        self._judging: dict[str, asyncio.Task[None]] = {}
        """URI -> the task that asks the plugins about it."""
        self._at: dict[str, Upstream] = {}
        """Watched URI -> the upstream that announces its changes."""
        self._doubted: set[str] = set()
        """Watched resources that were judged when the agent had other rights."""
        self._closed = False

    def renew(self, agent: Agent) -> None:
        """Let the plugins judge by the rights that the agent has now; `agent` replaces the one before."""
        self._agent = agent
        self._below.clear()
        self._doubted.update(self._held)

    def reconsider(self, gone: Collection[Upstream]) -> None:
        """After a change of the configuration: let the plugins judge again, and leave the upstreams in `gone`.

        What was watched there is watched where the catalog has it now, and its agent is told that it may have changed.
        """
        self._below.clear()
        self._doubted.update(self._held)
        for uri in [uri for uri, upstream in self._at.items() if upstream in gone]:
            self.remove(uri)
            if uri not in self._judging:
                self._judging[uri] = asyncio.get_running_loop().create_task(self._move(uri))

    async def _move(self, uri: str) -> None:
        try:
            await self.add(uri)
        except RpcError as problem:
            logger.debug("{} lost a subscription: {}", self._agent.principal.id, problem.message)
        else:
            self._tell(uri)
        finally:
            self._judging.pop(uri, None)

    async def add(self, uri: str) -> None:
        """Watch a resource. No effect if it is watched already; concurrent calls for one URI share the outcome.

        Raises `RpcError` if no upstream serves it, if a plugin refuses, if its upstream announces no changes, refuses
        or is unavailable, if the URI is too long, or at the limit `MAX_WATCHED`.
        """
        if uri in self._doubted:
            self.remove(uri)
        while (other := self._held.get(uri)) is not None:
            await asyncio.wait([other])
            if not other.cancelled():
                other.result()
                return
        if len(uri) > MAX_URI:
            raise RpcError.of_gateway(INVALID_PARAMS, f"a URI has more than {MAX_URI} characters")
        if len(self._held) >= MAX_WATCHED:
            raise overloaded(f"this client watches {MAX_WATCHED} resources, which is the limit")
        asked = self._held[uri] = asyncio.get_running_loop().create_future()
        try:
            release = await self._watch(uri)
        except BaseException as failure:
            if self._held.get(uri) is asked:
                del self._held[uri]
            _fail(asked, failure)
            raise
        asked.set_result(release)
        if self._closed or self._held.get(uri) is not asked:  # unsubscribed or closed while the upstream was asked
            release()

    def remove(self, uri: str) -> None:
        """Stop watching a resource; no effect if it is not watched."""
        self._doubted.discard(uri)
        self._at.pop(uri, None)
        asked = self._held.pop(uri, None)
        if asked is not None and asked.done():
            asked.result()()

    def close(self) -> None:
        """Stop watching all resources."""
        self._closed = True
        for uri in list(self._held):
            self.remove(uri)
        for task in self._judging.values():
            task.cancel()

    async def _watch(self, uri: str) -> Callable[[], None]:
        """Watch the resource if the plugins let it pass; returns the function that releases it."""
        releases: list[Callable[[], None]] = []

        async def subscribe(target: Target) -> CallResult:
            releases.append(await self._watch_at(uri, target))
            return CallResult(raw=b"{}")

        def release() -> None:
            for one in releases:
                one()

        try:
            params = {"uri": Raw(jsonrpc.encode(uri))}
            result = await self._call(Exchange(self._agent, SUBSCRIBE), params, subscribe)
            if result.error is not None:
                raise copied(result.error)
        except BaseException:
            release()
            raise
        return release

    async def _watch_at(self, uri: str, target: Target) -> Callable[[], None]:
        """Ask the upstreams of a resource for its changes, until one agrees."""
        able = [upstream for upstream in target.upstreams if announces_updates(upstream.capabilities)]
        if not able:
            names = ", ".join(upstream.name for upstream in target.upstreams)
            raise RpcError.of_gateway(METHOD_NOT_FOUND, f"upstream {names} announces no changes of resources")
        problem: DeliveryError = NotSent("not tried")
        patience = WATCH_TIMEOUT + max(upstream.connections.start_limit for upstream in able)
        try:
            async with asyncio.timeout(patience):
                for upstream in sorted(able, key=lambda upstream: not upstream.reachable):
                    on_update = self._teller(uri, upstream, target.original)
                    try:
                        release = await upstream.watch(self._agent, target.original, on_update)
                        self._at[uri] = upstream
                        return release
                    except DeliveryError as failure:
                        problem = failure
        except TimeoutError:
            problem = NotSent(f"no answer within {patience:g} s")
        raise RpcError.of_gateway(
            UPSTREAM_UNAVAILABLE,
            f"upstream {upstream.name} cannot be asked for changes of this resource: {problem.reason}",
            **retry_after(upstream.status.retry_in() or 1.0),
        )

    def _teller(self, uri: str, upstream: Upstream, original: str) -> Callable[[str], None]:
        def on_update(updated: str) -> None:
            if updated != original:
                viewer, profile = self._agent.viewer, self._agent.principal.profile
                self._tell_if_allowed(self._catalog.published_uri(upstream.name, updated, viewer, profile))
            elif uri in self._doubted:
                self._tell_if_allowed(uri)
            else:
                self._tell(uri)

        return on_update

    def _tell_if_allowed(self, uri: str) -> None:
        """Tell of a resource that the plugins have not judged, if they let the agent watch it; they are asked once."""
        allowed = self._below.get(uri)
        if allowed:
            self._tell(uri)
        elif allowed is None and uri not in self._judging and len(self._judging) < MAX_WATCHED and not self._closed:
            self._judging[uri] = asyncio.get_running_loop().create_task(self._judge(uri))

    async def _judge(self, uri: str) -> None:
        try:
            params = {"uri": Raw(jsonrpc.encode(uri))}
            result = await self._call(Exchange(self._agent, SUBSCRIBE), params, CallResult(raw=b"{}"))
        finally:
            del self._judging[uri]
        while len(self._below) >= MAX_WATCHED:
            del self._below[next(iter(self._below))]
        self._below[uri] = result.error is None
        if result.error is None and not self._closed:
            self._tell(uri)


def _fail(asked: asyncio.Future[Callable[[], None]], failure: BaseException) -> None:
    """Pass a failure to the concurrent callers of `add`; after a cancellation they ask the upstream themselves."""
    if isinstance(failure, asyncio.CancelledError):
        asked.cancel()
    else:
        asked.set_exception(failure)
        asked.exception()  # marks it as read: often no caller waits
