"""What plugins with the hook `observe` are told: how calls and authentications ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from gateway_core.api.call import Call, CallResult
from gateway_core.api.identity import Principal
from gateway_core.mcp.literals import Era

Decided: TypeAlias = Literal["pass", "rewrite", "refuse", "answer", "ask", "edit", "fail"]
"""What a plugin did with a call."""


class Decision(msgspec.Struct, frozen=True):
    """What one plugin did with a call, other than returning None."""

    plugin: str
    decided: Decided
    """`pass`, `rewrite`, `refuse`, `answer` or `ask` by `before_call`, `edit` of the result by `after_call`; `fail` if
    a hook failed or did not decide in time."""
    rule: str = ""
    """The rule behind it, in the words of the plugin: `rule` of its verdict, or the name of its question."""


class CallEnded(msgspec.Struct, frozen=True, eq=False):
    """A request of an agent has ended: also one that was refused, cancelled or malformed."""

    exchange_id: str
    method: str
    principal: Principal
    era: Era
    session: str
    """An opaque key of the agent's session (`Call.session`)."""
    call: Call | None
    """The request as the agent made it, before any plugin; None if its params could not be read."""
    final: Call | None
    """The request as the plugins left it: `call` itself if none changed it."""
    result: CallResult
    """The result that the agent gets, after all plugins and in the agent's era."""
    decisions: tuple[Decision, ...]
    """What the plugins did, in order."""
    upstream: str | None
    """The upstream that the request went to last; None if it went to none."""
    sent: bool
    """Whether a byte of the request may have reached an upstream."""
    started: float
    """Seconds since the epoch."""
    seconds: float
    """How long it took."""
    waited: float
    """Seconds of it that passed while the agent's user was asked."""
    generation: int = 1
    """The number of the configuration that judged and served it; each reload that changes something counts it up."""
    clean: Callable[[bytes], bytes] = bytes
    """Hides the secrets that the gateway holds in JSON, for who keeps arguments or results."""


class AuthenticationEnded(msgspec.Struct, frozen=True):
    """Credentials were accepted or refused. The gateway remembers that, so that not every request leads to it."""

    address: str
    """The client's address."""
    principal: Principal | None
    """Who was proven; None for a refusal."""
    plugin: str
    """The plugin that recognised the credentials; empty if none did."""
    reason: str
    """Why they were refused, for the operator; empty for `principal`."""
    generation: int = 1
    """The number of the configuration that judged them; see `CallEnded.generation`."""


Event: TypeAlias = CallEnded | AuthenticationEnded
