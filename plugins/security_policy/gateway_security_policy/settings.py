"""The settings of the plugin: the rules, as the TOML has them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from gateway_core import Globs, Patterns, PluginConfig, Remember, Tier
from gateway_security_policy.expressions import Expression

MAX_RULES: Final = 1000
MAX_WHEN: Final = 2000
"""Maximum characters of an expression."""

Effect = Literal["allow", "deny", "ask"]
Method = Literal["tools/call", "prompts/get", "resources/read", "resources/subscribe", "completion/complete"]

OUTCOME: Final = frozenset({"then", "reason", "remember", "answer", "approvers"})
"""Keys of a rule that say what happens to a call, not which calls it matches."""

_Text = Annotated[str, Field(min_length=1, max_length=512)]
_Texts = Annotated[tuple[_Text, ...], Field(min_length=1, max_length=256)]
_Globs = Annotated[Globs, Field(min_length=1)]


class RuleConfig(PluginConfig):
    """One rule: whom and what it concerns, and what then happens. Every key that is given must match."""

    name: Annotated[str, Field(pattern=r"^[ -~]{1,64}$")] | None = Field(
        default=None, description="name of the rule in logs and in `access`; without it, its number"
    )
    principals: _Globs | None = Field(
        default=None, description="ids of principals, or globs of the subjects of verified principals"
    )
    groups: _Texts | None = Field(default=None, description="the principal is in one of these groups")
    scopes: _Texts | None = Field(default=None, description="the principal has one of these scopes")
    issuers: _Globs | None = Field(default=None, description="globs of who vouches for the principal")
    profiles: _Texts | None = Field(default=None, description="the agent's profile, or else its claim `profile`")
    verified: bool | None = Field(default=None, description="whether the principal was proven by an authenticator")
    upstreams: _Globs | None = Field(default=None, description="globs of the names of upstreams")
    tools: _Globs | None = Field(default=None, description="globs of the names of tools")
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1)] | None = Field(
        default=None, description="what tools do, by their annotations: read, write, destructive"
    )
    prompts: _Globs | None = Field(default=None, description="globs of the names of prompts")
    resources: _Globs | None = Field(default=None, description="globs of the URIs of resources")
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] | None = Field(
        default=None, description="the methods of the protocol that the rule concerns"
    )
    when: Annotated[str, Field(max_length=MAX_WHEN)] | None = Field(
        default=None, description="a CEL expression over principal, tool and arguments that must be true"
    )
    then: Effect = Field(
        description="what happens to a call that the rule matches: allow, deny, or ask the agent's user"
    )
    reason: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        default=None,
        description="what the agent reads of a denial, or the user in the question; without it, a denied name looks as "
        "if it did not exist",
    )
    remember: Remember | None = Field(
        default=None,
        description="how long an approval counts for other calls of the same name: no (if left out), session, or a "
        "number of seconds",
    )

    answer: Literal["client", "page"] | None = Field(
        default=None,
        description="where the user answers: in the client (if left out), or on a page of the gateway in a browser, so "
        "that the client cannot answer for its user",
    )
    approvers: _Texts | None = Field(
        default=None,
        description="groups whose members may answer on the page; `operator|control-plane` lets operators answer on "
        "the control plane; without any, the principal of the agent may answer",
    )

    @field_validator("when")
    @classmethod
    def _compiles(cls, when: str | None) -> str | None:
        if when is not None:
            Expression(when)
        return when

    @model_validator(mode="after")
    def _every_key_is_read(self) -> RuleConfig:
        if self.reason is not None and self.then == "allow":
            raise ValueError("a rule that allows has no reason: the agent would never read it")
        if self.remember is not None and self.then != "ask":
            raise ValueError('only a rule with then = "ask" remembers approvals; remove remember')
        if self.answer is not None and self.then != "ask":
            raise ValueError('only a rule with then = "ask" has an answer; remove answer')
        if self.approvers is not None and self.answer != "page":
            raise ValueError('approvers has no effect without answer = "page"; add that, or remove approvers')
        return self


class Settings(PluginConfig):
    """Settings of `security_policy`."""

    mode: Literal["enforce", "report"] = Field(
        default="enforce", description="enforce the rules, or only log what they would refuse"
    )
    unannotated: Tier = Field(
        default="destructive", description="what tools do whose server does not say: read, write or destructive"
    )
    patterns: Patterns = Field(
        default=Patterns(), description="RE2 patterns, case ignored, of more argument names whose values questions hide"
    )
    rules: Annotated[tuple[RuleConfig, ...], Field(max_length=MAX_RULES)] = Field(
        default=(), description="the first rule that matches decides; a call that no rule matches is denied"
    )
