"""What one agent sees of the lists: the catalog's, as the plugins that hook lists leave them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Protocol, TypeAlias

from gateway_core.api import Call, CallResult, Era, Principal, Reject
from gateway_core.catalog import Catalog
from gateway_core.errors import RpcError
from gateway_core.hooks import Chain, ChainProgress, Question
from gateway_core.mcp import jsonrpc
from gateway_core.pipeline.delivery import CANCELLED_CALL
from gateway_core.pipeline.results import rejected

MAX_SECONDS: Final = 10.0
"""Seconds that the plugins have for the lists of one agent."""
MAX_PAGES: Final = 1000
"""Pages of one list."""
MEMBERS: Final[Mapping[str, tuple[str, str]]] = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
"""Method of a list -> the member of its result that has the entries, and the member of an entry that has its name."""
_HOOKS: Final = frozenset({"before_call", "after_call"})
Seen: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""Method of each list -> its entries, by their names."""


class Viewer(Protocol):
    """Who sees the lists."""

    @property
    def principal(self) -> Principal: ...
    @property
    def era(self) -> Era: ...
    @property
    def viewer(self) -> str: ...
    @property
    def session(self) -> str: ...


async def seen_lists(
    chain: Chain, catalog: Catalog, agent: Viewer, methods: Collection[str] = MEMBERS
) -> tuple[Seen, list[str]]:
    """The lists of `methods` that an agent would get now, and why parts of them are missing or may differ.

    Runs `before_call` and `after_call` for each page. Observers learn nothing of it, and no upstream does.
    """
    seen: Seen = {}
    remarks = list(_without_headers(chain, methods))
    with chain.held():
        for method in methods:
            seen[method] = {}
            try:
                async with asyncio.timeout(MAX_SECONDS / len(methods)):
                    remark = await _read(chain, catalog, agent, method, seen[method])
            except TimeoutError:
                remark = "the plugins did not decide in time"
            if remark:
                remarks.append(f"{method}: {remark}")
    if catalog.seen_by(agent.viewer, agent.principal.profile) is None:
        remarks.append("the lists that servers keep for this agent alone are not complete: it has not asked for them")
    return seen, remarks


def _without_headers(chain: Chain, methods: Collection[str]) -> Iterator[str]:
    """A remark on each plugin that hooks these lists and sees headers of requests: there is no request here."""
    for plugin in chain.plugins:
        names = chain.call_headers.get(plugin.name)
        if names and not plugin.methods.isdisjoint(methods) and not _HOOKS.isdisjoint(plugin.hooks):
            yield f"the plugin {plugin.name} got no headers ({', '.join(names)}): with them the lists may differ"


async def _read(chain: Chain, catalog: Catalog, agent: Viewer, method: str, entries: dict[str, dict[str, Any]]) -> str:
    """Add the entries of a list to `entries`. Returns why some are missing; empty if none is."""
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        await asyncio.sleep(0)  # serves calls between pages, and lets the time pass if no hook waits
        result = await _page(chain, catalog, agent, method, cursor)
        if result.error is not None:
            return result.error.message
        try:
            page = jsonrpc.value(result.raw)
        except RpcError as error:
            return error.message
        member, key = MEMBERS[method]
        listed = page.get(member) if isinstance(page, dict) else None
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get(key), str):
                entries[entry[key]] = entry
        cursor = page.get("nextCursor") if isinstance(page, dict) else None
        if not isinstance(cursor, str):
            return ""
    return f"it has more than {MAX_PAGES} pages"


async def _page(chain: Chain, catalog: Catalog, agent: Viewer, method: str, cursor: str | None) -> CallResult:
    """One page, as the hooks leave it."""
    progress, result = ChainProgress(), CANCELLED_CALL
    try:
        result = await _decided(chain, catalog, agent, method, cursor, progress=progress)
    finally:  # `after_call` also follows a cancellation
        result = await chain.run_after(progress, result)
    return result


async def _decided(
    chain: Chain, catalog: Catalog, agent: Viewer, method: str, cursor: str | None, *, progress: ChainProgress
) -> CallResult:
    """One page, or what `before_call` of a plugin returned in its place."""
    principal = agent.principal
    session, generation = agent.session, chain.generation
    call = Call(method, "", principal, agent.era, "control-plane", session=session, generation=generation)
    call = call.with_listed(catalog.listed(method, agent.viewer, principal.profile))
    end: Reject | CallResult | Question | None = None
    if method in chain.methods:
        call, end = await chain.run_before(call, lambda rewritten: rewritten, progress)
    if isinstance(end, Question):
        return CallResult.failed(RpcError.of_gateway(0, f"the plugin {end.plugin} asks a person before each list"))
    if isinstance(end, Reject):
        return rejected(end)
    if end is not None:
        return end
    try:
        raw = catalog.page(method, agent.era, cursor, agent.viewer, principal.profile)
        return CallResult(raw=raw, era=agent.era)
    except RpcError as error:  # the list has changed meanwhile
        return CallResult.failed(error)
