"""The `requestState` of agents: a sealed token, bound to principal and request, valid once."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from typing import Any, Final, Literal

import msgspec

from gateway_core.api import Call
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.mcp import jsonrpc
from gateway_core.sealing import Seal

MAX_USED: Final = 65_536
"""Maximum number of used states that are remembered; the oldest are forgotten first."""


class State(msgspec.Struct, array_like=True, frozen=True):
    """The content of a request state."""

    kind: Literal["relay", "again", "parked"]
    """`relay`: pass the answers on to the upstream, with its own state. `again`: repeat the first request.
    `parked`: resume the parked call."""
    upstream: str
    inner: str | None = None
    """The upstream's own state (`relay`; None if it has none), or the key of the parked call."""
    nonce: bytes = b""


class States:
    """Seals and opens states, bound to principal, method, and a digest of name and arguments (Server Requirements)."""

    def __init__(self, seal: Seal, life: float) -> None:
        """`life`: seconds until a state expires."""
        self._seal = seal
        self._life = life
        self._used: dict[bytes, float] = {}

    def seal(self, call: Call, kind: Literal["relay", "again", "parked"], upstream: str, inner: str | None) -> str:
        """The token for the agent. `call`: as the agent sent it, before any plugin."""
        state = State(kind, upstream, inner, secrets.token_bytes(12))
        return self._seal.seal(_binding(call), msgspec.msgpack.encode(state), self._life)

    def open(self, call: Call, raw: bytes) -> State:
        """Open a state that came with `call`, and mark it as used. `raw`: the member's JSON.

        Raises the same `RpcError(INVALID_PARAMS)` for a state that was altered, expired or used, or belongs to another
        principal or request.
        """
        try:
            content = self._seal.open(_binding(call), msgspec.json.decode(raw, type=str))
        except msgspec.DecodeError:
            content = None
        if content is None:
            raise refused()
        state = msgspec.msgpack.decode(content, type=State)
        if state.nonce in self._used:
            raise refused()
        self._remember(state.nonce)
        return state

    def give_back(self, state: State) -> None:
        """Make a used state valid again, because the gateway could not send its round."""
        self._used.pop(state.nonce, None)

    def _remember(self, nonce: bytes) -> None:
        now = time.monotonic()
        while self._used and (len(self._used) >= MAX_USED or next(iter(self._used.values())) < now):
            del self._used[next(iter(self._used))]
        self._used[nonce] = now + self._life


def refused() -> RpcError:
    """The error for every invalid state."""
    return RpcError.of_gateway(
        INVALID_PARAMS, "requestState is not valid for this request, or not any more; send the request without it"
    )


def _binding(call: Call) -> tuple[str, ...]:
    return ("requestState", call.principal.id, call.method, _digest(call))


def _digest(call: Call) -> str:
    """A digest of name and arguments, independent of white space and member order, which a retry may change."""
    arguments: Any = None
    if call.raw_arguments:
        try:
            arguments = jsonrpc.value(call.raw_arguments)
        except RpcError:  # bind ambiguous JSON by its exact text
            arguments = call.raw_arguments.decode()
    text = json.dumps([call.name, arguments], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
