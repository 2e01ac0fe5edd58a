"""Requests that an operator tries out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Protocol, TypedDict

import msgspec

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem
from gateway_core.errors import UnknownProfile

TRIAL_TIME: Final = 600.0
"""Seconds that the connection of a request may last. The deadline of the call itself is that of any call."""


class Tried(Protocol):
    """One request and its response, as JSON-RPC."""

    @property
    def request(self) -> dict[str, Any]: ...
    @property
    def response(self) -> dict[str, Any]: ...
    @property
    def seconds(self) -> float: ...
    @property
    def exchange(self) -> str: ...


class Trials(Protocol):
    """Makes the requests of operators."""

    async def run(self, method: str, params: Mapping[str, Any], profile: str = "") -> Tried:
        """Make one request and wait for its response. Cancelling this cancels the request. Raises `UnknownProfile`."""


class Downstream(Protocol):
    """The agents' side."""

    @property
    def trials(self) -> Trials: ...


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def downstream(self) -> Downstream: ...


class Trial(msgspec.Struct, forbid_unknown_fields=True):
    """A request as an agent of 2026-07-28 makes it."""

    method: Literal["tools/call", "resources/read", "prompts/get", "completion/complete"]
    params: Annotated[
        dict[str, Any],
        msgspec.Meta(
            description="`_meta` adds to that of the operator. After a question, `inputResponses` and `requestState` "
            "bring the answer."
        ),
    ]
    profile: Annotated[str, msgspec.Meta(description="The profile to try; empty without one")] = ""


class Exchanged(TypedDict):
    """The request and its response, as JSON-RPC. `exchange`: its id in the log; empty if it was not admitted."""

    request: dict[str, Any]
    response: dict[str, Any]
    seconds: float
    exchange: str


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The requests of operators."""

    async def run(asked: Asked[None, Trial]) -> Exchanged:
        asked.give_time(TRIAL_TIME)
        body = asked.body
        try:
            found = await operations.downstream.trials.run(body.method, body.params, body.profile)
        except UnknownProfile as error:
            raise Problem(404, str(error)) from None
        return {
            "request": found.request,
            "response": found.response,
            "seconds": found.seconds,
            "exchange": found.exchange,
        }

    return (
        Endpoint(
            "POST",
            "/admin/try",
            "change",
            "Make one request as the operator, through the same plugins and limits as those of agents",
            Exchanged,
            run,
            body=Trial,
            problems={404: "There is no such profile"},
            ends_with_connection=True,
        ),
    )
