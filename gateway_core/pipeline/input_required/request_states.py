"""The `requestState` of agents: a sealed token, bound to principal and request, valid once."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from gateway_core.api import Call, GivenAnswer, Principal
from gateway_core.api.call import answers_of
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.limits.shares import holder_of
from gateway_core.pipeline.input_required.used_states import UsedStates
from gateway_core.sealing import Seal


class Pending(msgspec.Struct, array_like=True, frozen=True):
    """A question of a plugin that the agent has not answered yet."""

    plugin: str
    name: str
    subject: bytes
    """See `GivenAnswer`."""
    schema: bytes
    """The JSON of the form's schema; empty without a form."""
    key: str
    """The key of its place among the parked calls, which can be taken once."""
    approves: bool = False
    """See `Ask`."""
    page: str = ""
    """The token of the page on which it is answered; empty if the client answers."""


Kind: TypeAlias = Literal["first", "relay", "again", "parked"]


class State(msgspec.Struct, array_like=True, frozen=True):
    """The content of a request state: how the call goes on, and what the agent's user has answered."""

    kind: Kind
    """`first`: send the first round, which waits for an answer to the gateway. `relay`: pass the answers on to the
    upstream, with its own state. `again`: repeat the first request. `parked`: resume the parked call."""
    upstream: str = ""
    inner: str | None = None
    """The upstream's own state (`relay`; None if it has none), or the key of the parked call."""
    nonce: bytes = b""
    answers: tuple[GivenAnswer, ...] = ()
    """The answers to questions of plugins about this call."""
    pending: Pending | None = None
    """The question of a plugin that the next round answers; None if it answers an upstream."""
    responses: bytes = b""
    """`inputResponses` for the upstream that the agent sent before it was asked `pending`."""
    issued: float = 0.0
    """When it was sealed, in seconds on the clock of the shared seal."""


class States:
    """Seals and opens states, bound to principal, profile, method, name and arguments (Server Requirements).

    Other processes with the same keys accept a state, but not one with questions or answers of plugins: each process
    remembers which states were used, and an answer counts once.
    """

    def __init__(self, seal: Seal, life: float, before: States | None = None) -> None:
        """`life`: seconds until a state expires, at most. `before`: those of an earlier configuration, to continue."""
        if before is not None and before._clock is not seal.clock:
            before = None  # their times cannot be compared
        self._seal = seal
        self._own: Seal = Seal() if before is None else before._own
        """Its key is known to this process only."""
        self._life = life
        self._clock: Callable[[], float] = seal.clock
        self._used: UsedStates = UsedStates(seal.clock, life) if before is None else before._used
        self._used.remember_for(life)

    def seal(self, call: Call, state: State, life: float | None = None) -> str:
        """The token for the agent, with the answers in `call`, which is as the agent sent it, before any plugin."""
        answers = answers_of(call).given
        content = replace(state, nonce=secrets.token_bytes(12), issued=self._clock(), answers=answers)
        seal = self._own if answers or state.pending is not None else self._seal
        seconds = self._life if life is None else min(life, self._life)
        return seal.seal(_binding(call), msgspec.msgpack.encode(content), seconds)

    def read(self, call: Call, raw: bytes) -> State:
        """The state that came with `call`, which stays valid. `raw`: the member's JSON.

        Raises the same `RpcError(INVALID_PARAMS)` for a state that was altered, expired or used, or belongs to another
        principal or request.
        """
        content, binding = None, _binding(call)
        try:
            token = msgspec.json.decode(raw, type=str)
            content = self._seal.open(binding, token) or self._own.open(binding, token)
        except msgspec.DecodeError:
            pass
        if content is None:
            raise refused()
        state = msgspec.msgpack.decode(content, type=State)
        self._check_unused(state, call.principal)
        return state

    def use(self, state: State, principal: Principal) -> None:
        """Mark a state of `principal` as used. Raises `RpcError(INVALID_PARAMS)` if it is already."""
        self._check_unused(state, principal)
        self._used.add(holder_of(principal)[0], state.nonce, state.issued)

    def _check_unused(self, state: State, principal: Principal) -> None:
        if self._used.has(holder_of(principal)[0], state.nonce, state.issued):
            raise refused()

    def give_back(self, state: State, principal: Principal) -> None:
        """Make a used state valid again, because the gateway could not send its round."""
        self._used.remove(holder_of(principal)[0], state.nonce)


def refused() -> RpcError:
    """The error for every invalid state."""
    return RpcError.of_gateway(
        INVALID_PARAMS, "requestState is not valid for this request, or not any more; send the request without it"
    )


def _binding(call: Call) -> tuple[str, ...]:
    return ("requestState", call.principal.id, call.principal.profile, call.method, call.digest())
