"""Ask the agent's user before calls that need a person.

Globs and the annotations of the tool decide which calls need one. The question shows the server, the tool
and the arguments, with secrets hidden. An approval counts for exactly the call that was shown; `remember` extends it
to later calls of the same tool. A call whose agent cannot be asked is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gateway_core import (
    Approvals,
    Ask,
    Call,
    Globs,
    Known,
    Note,
    Patterns,
    Plugin,
    PluginConfig,
    Reject,
    Remember,
    Tier,
    hookimpl,
    tier_of,
)


class Settings(PluginConfig):
    """Settings of `security_approval`."""

    tiers: tuple[Tier, ...] = Field(
        default=("destructive",), description="the tiers of tools whose calls need a person"
    )
    unannotated: Tier = Field(default="destructive", description="the tier of a tool without annotations")
    upstreams: Globs = Field(default=Globs(["*"]), description="globs of the upstreams to which `tiers` applies")
    always: Globs = Field(
        default=Globs(), description="globs of tools that need a person in any case: a name, or upstream:tool"
    )
    never: Globs = Field(
        default=Globs(), description="globs of tools that need no person, unless `always` matches them, too"
    )
    remember: Remember = Field(
        default="no",
        description="how long an approval counts for other calls of the same tool: no, session, or a number of seconds",
    )
    lifetime: float | None = Field(
        default=None,
        gt=0,
        le=Approvals.MAX_SECONDS,
        description="seconds for the answer; without it, `question_timeout`",
    )
    max_shown: int = Field(
        default=2000, ge=200, le=Approvals.MAX_SHOWN, description="characters of the arguments to show"
    )
    answer: Literal["client", "page"] = Field(
        default="client",
        description="where the user answers: in the client, or on a page of the gateway in a browser, so that the "
        "client cannot answer for its user",
    )
    approvers: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(max_length=64)] = Field(
        default=(),
        description="groups whose members may answer on the page; `operator|control-plane` lets operators "
        "answer on the control plane; without any, the principal of the agent may answer",
    )
    patterns: Patterns = Field(
        default=Patterns(), description="RE2 patterns, case ignored, of more argument names whose values are hidden"
    )

    @model_validator(mode="after")
    def _every_key_is_read(self) -> Self:
        for name in ("upstreams", "unannotated"):
            if name in self.model_fields_set and not self.tiers:
                raise ValueError(f"{name} has no effect while tiers is empty; remove one of the two")
        if self.approvers and self.answer != "page":
            raise ValueError('approvers has no effect without answer = "page"; add that, or remove approvers')
        return self


class Approval(Plugin[Settings]):
    """Asks about calls that need a person, and passes those that the user accepts."""

    methods = frozenset({"tools/call"})
    fails_closed: ClassVar = True

    def __init__(self, config: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(config)
        self._approvals = Approvals(config.patterns, clock)
        upstreams, always, never = (globs.matches for globs in (config.upstreams, config.always, config.never))
        tiers = frozenset(config.tiers)

        @lru_cache(maxsize=4096)
        def needs_person(tool: str, original: str, servers: tuple[str, ...], tier: Tier) -> bool:
            names = (tool, *(f"{server}:{original}" for server in servers))
            if any(map(always, names)):
                return True
            if never(tool) or (servers and all(never(f"{server}:{original}") for server in servers)):
                return False  # whichever of them gets the call
            return tier in tiers and any(map(upstreams, servers))

        self._needs_person = needs_person

    def notes(self, known: Known) -> Iterator[Note]:
        """Globs that match nothing, and groups in which no agent is."""
        config = self.config
        yield from known.about_upstreams(config.upstreams, "upstreams")
        yield from known.about_groups(config.approvers, "approvers")
        yield from known.about_calls(config.always, "always")
        yield from known.about_calls(config.never, "never")

    @hookimpl
    def before_call(self, call: Call) -> Ask | Reject | None:
        if not call.upstreams:
            return None  # no upstream serves it
        # `upstream:tool` may be a tool that its server does not list: nothing is known about it.
        name = call.name if call.tool is None else call.tool.name
        tier = "destructive" if call.tool is None else tier_of(call.tool.annotations) or self.config.unannotated
        if not self._needs_person(name, call.original_name, call.upstreams, tier):
            return None
        config = self.config
        return self._approvals.verdict(
            call,
            remember=config.remember,
            lifetime=config.lifetime,
            max_shown=config.max_shown,
            on_page=config.answer == "page",
            approvers=config.approvers,
        )
