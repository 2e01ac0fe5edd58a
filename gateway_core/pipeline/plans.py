"""Call plans: the data that all plain calls of one tool by one agent share.

A **plan** holds the tool's target, the shared bytes for each upstream, and the log line. It is valid while the agent's
view of the catalog is unchanged. A call is plain if its params have only `name`, `arguments` and `_meta`, the tool
mirrors no argument in headers, and one of its upstreams was tried before. Other calls run through the same pipeline
without a plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from gateway_core.api import Call, Outcome
from gateway_core.catalog import Catalog, Target
from gateway_core.errors import RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.log import access
from gateway_core.log.lines import Differs, Line
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import TOOLS_CALL
from gateway_core.pipeline.router import is_untried
from gateway_core.upstream.requests import Request, Template

MAX_PLANS: Final = 64
"""Maximum number of cached plans of one agent."""
MAX_NAME: Final = 1024
"""Maximum bytes of a name whose plan is cached."""
_PLAIN: Final = frozenset({"name", "arguments", "_meta"})
_BRACE: Final = ord("{")


class CallPlan:
    """The plan of one tool for one agent."""

    __slots__ = ("generation", "limit", "lines", "name", "params", "seen", "target", "templates")

    def __init__(
        self, seen: object, name: str, target: Target | None, generation: int, limit: float | None = None
    ) -> None:
        self.seen = seen
        """The catalog view (`Catalog.seen_by`) for which the plan is valid."""
        self.name = name
        self.generation = generation
        self.target = target
        """None if each call needs its own look-up."""
        self.limit = limit
        """See `limit_of`."""
        self.params: Mapping[str, str] = {} if target is None else {"name": target.original}
        self.templates: dict[str, tuple[object, Template | None]] = {}
        """See `Request.templates`."""
        self.lines: dict[str, Line] = {}
        """Upstream -> the log line of its successful calls."""

    def call(self, exchange: Exchange, target: Target, arguments: bytes, meta: bytes) -> Call:
        """The call as plugins see it."""
        agent = exchange.agent
        return Call(
            TOOLS_CALL,
            self.name,
            agent.principal,
            agent.era,
            exchange.id,
            arguments,
            meta,
            target.tool,
            target,
            session=agent.session_key,
            generation=exchange.generation,
        )

    def request(self, call: Call, exchange: Exchange) -> Request:
        """The request for the target's upstream."""
        meta = exchange.meta if exchange.meta is not None else jsonrpc.members(call.raw_meta, "params._meta")
        return Request(TOOLS_CALL, self.params, meta, exchange.id, call.raw_arguments, self.templates)

    def line(self, agent: Agent, upstream: str) -> Line:
        """The log line of successful calls at `upstream`; `agent`: the owner of this plan."""
        line = self.lines.get(upstream)
        if line is None:
            fields = {
                "exchange": Differs.WORD,
                "agent": agent.principal.id,
                "outcome": Outcome.OK.value,
                "ms": Differs.NUMBER,
                "upstream": upstream,
            }
            shown = access.shown_name(TOOLS_CALL, self.name)
            members = access.members(TOOLS_CALL, shown, agent.principal.id, agent.session_id)
            shared = access.completed(fields, self.generation, agent.principal.profile)
            line = self.lines[upstream] = Line(f"{TOOLS_CALL} {shown}", shared, members)
        return line


class CallPlans:
    """Makes plans and caches them in their agents."""

    def __init__(self, catalog: Catalog, generation: int, timeout: float) -> None:
        """`generation`: the number of the configuration, for the log. `timeout`: the default one, in seconds."""
        self._catalog = catalog
        self._generation = generation
        self._timeout = timeout

    def plan(self, exchange: Exchange, members: Mapping[str, Raw]) -> tuple[CallPlan, Call] | None:
        """The plan of a plain call, and the call as plugins see it; None for every other request."""
        if exchange.method != TOOLS_CALL or "name" not in members or not _PLAIN.issuperset(members):
            return None
        arguments = bytes(members["arguments"]) if "arguments" in members else b""
        agent = exchange.agent
        seen = self._catalog.seen_by(agent.viewer, agent.principal.profile)
        if seen is None or (arguments and arguments[0] != _BRACE):
            return None
        name = bytes(members["name"])
        plan: CallPlan | None = agent.plans.get(name)
        if plan is None or plan.seen is not seen:
            plan = self._make(exchange, seen, name)
        target = plan.target
        if target is None:
            return None
        if target.preset is not None:
            arguments, error = target.preset.added_to(arguments)
            if error is not None:
                return None
        meta = bytes(members["_meta"]) if "_meta" in members else b""
        return plan, plan.call(exchange, target, arguments, meta)

    def _make(self, exchange: Exchange, seen: object, name: bytes) -> CallPlan:
        try:
            text = jsonrpc.text(name, "params.name")
        except RpcError:
            text = ""
        agent = exchange.agent
        target = self._catalog.tool(text, agent.viewer, agent.principal.profile) if text else None
        if target is not None and not target.mirrored and not is_untried(target):
            plan = CallPlan(seen, text, target, self._generation, limit_of(target, self._timeout))
        else:
            plan = CallPlan(seen, text, None, self._generation)
        if len(name) <= MAX_NAME:
            plans = exchange.agent.plans
            if len(plans) >= MAX_PLANS:
                plans.clear()
            plans[name] = plan
        return plan


def limit_of(target: Target, default: float) -> float | None:
    """The longest timeout of the target's upstreams, in seconds; None if it is the `default` one."""
    upstreams = target.upstreams
    own = upstreams[0].timeout if len(upstreams) == 1 else max(it.timeout or default for it in upstreams)
    return own if own != default else None
