"""Task ids: a server may turn a long call into a task, which agents refer to later by id (SEP-2663).

Two upstreams may issue the same **task id**, and upstreams do not know the agents. So agents get a sealed token that
holds the upstream's name and id and the name of the tool, and is bound to the principal and its profile. Any process
with the same secrets can open it; nothing is stored here. All ids that cannot be opened get the same response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from gateway_core.api import Call, CallResult, Principal
from gateway_core.catalog.snapshot import Target
from gateway_core.errors import MISSING_CLIENT_CAPABILITY, UPSTREAM_FAILED, RpcError
from gateway_core.exchange.exchange import Agent
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import TASK_ID, TASKS, TASKS_EXTENSION
from gateway_core.sealing import Seal
from gateway_core.upstream.capabilities import takes_tasks
from gateway_core.upstream.upstream import Upstream

MAX_TASK_ID: Final = 2048
"""Bytes of an upstream's id; the agent's id, which is a third longer, is sent in a header."""
MAX_LIFETIME: Final = 3600.0
"""Seconds for which a server is kept running for a task that no request asks for."""
_PURPOSE: Final = "task"


def require_tasks(agent: Agent) -> None:
    """Raises `RpcError(MISSING_CLIENT_CAPABILITY)` unless the agent's request declares the extension."""
    if not takes_tasks(agent):
        needed: dict[str, Any] = {"extensions": {TASKS_EXTENSION: {}}}
        message = f"this request needs the client capability extensions[{TASKS_EXTENSION!r}]"
        raise RpcError.of_gateway(MISSING_CLIENT_CAPABILITY, message, requiredCapabilities=needed)


class Tasks:
    """Translates task ids between agents and upstreams."""

    def __init__(
        self, seal: Seal, upstreams: Sequence[Upstream], tool: Callable[[str, str, str], Target | None]
    ) -> None:
        """`tool` looks a tool up by the name that an agent uses, given by `Agent.viewer` and its profile."""
        self._seal = seal
        self._tool = tool
        self._upstreams = {upstream.name: upstream for upstream in upstreams}

    def find(self, agent: Agent, task_id: str) -> Target | None:
        """The upstream that has the task, its own task id, and the tool that created it if the agent still sees that.

        None if the id is not valid for the agent's principal. Agents of one principal may present other values for
        upstreams; the request about the task then goes out with those of the agent that asks, and the upstream decides.
        """
        content = self._seal.open_stable(_binding(agent.principal), task_id)
        if content is None:
            return None
        name, own, tool = msgspec.json.decode(content, type=tuple[str, str, str])
        upstream = self._upstreams.get(name)
        # A server that is legacy by now would misread the request as one of the older protocol.
        if upstream is None or upstream.facts.era == "legacy":
            return None
        creator = self._tool(tool, agent.viewer, agent.principal.profile)
        return Target(own, (upstream,), None if creator is None else creator.tool)

    def id_for(self, principal: Principal, upstream: str, own: str, tool: str) -> str:
        """The id that `principal` uses for the task `own` of `upstream`, which its call of `tool` created."""
        return self._seal.seal_stable(_binding(principal), jsonrpc.encode((upstream, own, tool)))

    def translated(self, call: Call, target: Target, result: CallResult) -> CallResult:
        """The upstream's result, with the agent's task id.

        Raises `RpcError(UPSTREAM_FAILED)` if a new task has no id or one that is too long, or if it is the wrong task.
        """
        if result.error is not None or result.upstream is None or result.era != "modern":
            return result
        if call.method in TASKS:
            return self._told(call, target.original, result.upstream, result)
        # Few results are tasks, so only possible ones are parsed.
        if call.method == "tools/call" and jsonrpc.has(result.raw, b'"task"'):
            return self._created(call, result.upstream, result)
        return result

    def _created(self, call: Call, upstream: str, result: CallResult) -> CallResult:
        members = jsonrpc.members(result.raw)
        if _text(members.get("resultType")) != "task":
            return result
        own = _text(members.get(TASK_ID))
        if not own or len(own.encode()) > MAX_TASK_ID:
            raise _invalid(upstream, f"its task has no id, or one of more than {MAX_TASK_ID} bytes")
        if (server := self._upstreams.get(upstream)) is not None:
            server.connections.demand.hold(_lifetime(members.get("ttlMs")))
        return _with_id(result, members, self.id_for(call.principal, upstream, own, call.name))

    def _told(self, call: Call, own: str, upstream: str, result: CallResult) -> CallResult:
        members = jsonrpc.members(result.raw)
        if TASK_ID not in members:
            return result
        if _text(members[TASK_ID]) != own:
            raise _invalid(upstream, "it is about another task than the one that was asked for")
        return _with_id(result, members, call.name)


def _binding(principal: Principal) -> tuple[str, ...]:
    """Whose task it is. Agents of another profile may not see the tool that created it."""
    return (_PURPOSE, principal.id, principal.profile)


def _lifetime(raw: Raw | None) -> float:
    """Seconds for which a server that is not used otherwise goes on for a task."""
    try:
        return min(msgspec.json.decode(raw or Raw(b""), type=int) / 1000, MAX_LIFETIME)
    except msgspec.DecodeError:
        return MAX_LIFETIME


def _text(raw: Raw | None) -> str | None:
    """The value of a member that is a string; None for anything else."""
    try:
        return None if raw is None else msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return None


def _with_id(result: CallResult, members: dict[str, Raw], task_id: str) -> CallResult:
    members[TASK_ID] = Raw(jsonrpc.encode(task_id))
    return replace(result, raw=jsonrpc.encode(members), _decoded=[])


def _invalid(upstream: str, what: str) -> RpcError:
    message = f"the answer of upstream {upstream} is invalid: {what}"
    return RpcError.of_gateway(UPSTREAM_FAILED, message, upstream=upstream)
