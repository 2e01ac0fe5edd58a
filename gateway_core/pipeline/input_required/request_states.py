"""The `requestState` that an agent brings back: sealed, bound to who may bring it and with what, good for one use."""

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
"""States that are remembered as used until they lapse; of more, the oldest are forgotten first."""


class State(msgspec.Struct, array_like=True, frozen=True):
    """What the gateway has to know when the agent comes back."""

    kind: Literal["relay", "again", "parked"]
    """`relay`: pass the answers on to the upstream, with its own state. `again`: send the request as it was first.
    `parked`: wake the call that waits."""
    upstream: str
    inner: str | None = None
    """The upstream's own state (`relay`; None when it gave none), or the key of the parked call."""
    nonce: bytes = b""


class States:
    """Makes and reads states. Bound to principal, method, and a digest of name and arguments (Server Requirements)."""

    def __init__(self, seal: Seal, life: float) -> None:
        """`life`: seconds until a state lapses."""
        self._seal = seal
        self._life = life
        self._used: dict[bytes, float] = {}

    def seal(self, call: Call, kind: Literal["relay", "again", "parked"], upstream: str, inner: str | None) -> str:
        """The text that the agent brings back. `call` as the agent made it, before any plugin."""
        state = State(kind, upstream, inner, secrets.token_bytes(12))
        return self._seal.seal(_binding(call), msgspec.msgpack.encode(state), self._life)

    def open(self, call: Call, raw: bytes) -> State:
        """What an agent has brought back with `call`, as the JSON of the member. Each is taken once.

        Raises `RpcError(INVALID_PARAMS)`, in the same words whether it was altered, is another's, of another request,
        has lapsed or was used before.
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
        """It was brought back and could not be used, through no fault of the agent's: it is good once more."""
        self._used.pop(state.nonce, None)

    def _remember(self, nonce: bytes) -> None:
        now = time.monotonic()
        while self._used and (len(self._used) >= MAX_USED or next(iter(self._used.values())) < now):
            del self._used[next(iter(self._used))]
        self._used[nonce] = now + self._life


def refused() -> RpcError:
    """The one answer to every state that is not good (any more)."""
    return RpcError.of_gateway(
        INVALID_PARAMS, "requestState is not valid for this request, or not any more; send the request without it"
    )


def _binding(call: Call) -> tuple[str, ...]:
    return ("requestState", call.principal.id, call.method, _digest(call))


def _digest(call: Call) -> str:
    """A digest of what the call is about; white space and order do not count, since clients write it anew."""
    arguments: Any = None
    if call.raw_arguments:
        try:
            arguments = jsonrpc.value(call.raw_arguments)
        except RpcError:  # what parsers read differently is bound byte by byte
            arguments = call.raw_arguments.decode()
    text = json.dumps([call.name, arguments], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
