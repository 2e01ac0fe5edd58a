"""The base class of every table of the file, and the tables that depend on no other."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway_core.config.fields import (
    Filled,
    Host,
    IdentityHeader,
    JsonValues,
    Networks,
    Patterns,
    ProfileName,
    Strings,
    ToolName,
    as_tuple,
)

MIB = 1024 * 1024


class Section(BaseModel):
    """Base of every table: no unknown keys, no conversions between types, no values in error texts."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True, validate_default=False
    )

    not_in_file: ClassVar[frozenset[str]] = frozenset()
    """Fields that `load` sets and that are not keys of the file."""

    @classmethod
    def file_keys(cls) -> list[str]:
        """The keys that the table may have in the file."""
        return [key for key in cls.model_fields if key not in cls.not_in_file]


class ControlConfig(Section):
    """The control plane: status and tools for operators, on a listener that agents do not use."""

    host: Host = Field(
        default="127.0.0.1",
        description="Address to listen on. The admin token crosses it unencrypted: keep it on loopback.",
    )
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="TCP port to listen on; 0 takes a free one, which the commands find through the pid file.",
    )


class NamesConfig(Section):
    """Which names of tools and prompts agents can take. Names that do not fit are changed before they are published."""

    max_length: int = Field(
        default=128,
        ge=32,
        le=128,
        description="Longest name in characters; some clients take 64. A longer one is cut and ends in a digest.",
    )
    dots: bool = Field(default=True, description="Whether names may contain a dot; `false` puts `_` in its place.")


class LimitsConfig(Section):
    """Upper bounds of the gateway itself. Sizes are bytes, `session_idle` is seconds."""

    memory: int | None = Field(
        default=None,
        ge=64 * MIB,
        description="Bytes that the gateway's process may use. From 90 % on it refuses new work, from 95 % on it ends "
        "idle sessions. Without it: half of the machine's, or 85 % of a control group's or of `ulimit -v`.",
        examples=[536870912],
    )
    request_body: int = Field(default=4 * MIB, gt=0, description="Largest request body of an agent, bytes.")
    response_body: int = Field(
        default=16 * MIB,
        gt=0,
        description="Largest answer of an upstream, bytes after decompression; also its longest line or event.",
    )
    in_flight: int = Field(default=1024, gt=0, description="Requests in flight in the whole gateway; more are refused.")
    sessions: int = Field(default=10_000, gt=0, description="Sessions of legacy agents in all.")
    sessions_per_principal: int = Field(default=100, gt=0, description="Sessions of one legacy agent.")
    session_idle: float = Field(default=1800.0, gt=0, description="A session unused for this many seconds is closed.")
    page_size: int = Field(default=1000, gt=0, description="Entries in one page of a list.")
    parked_calls: int = Field(default=1000, gt=0, description="Calls that wait for an agent's answer, in all.")
    parked_per_principal: int = Field(default=32, gt=0, description="The same for one agent.")


class LogConfig(Section):
    """What the gateway says about itself, and where."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe level written."
    )
    format: Literal["text", "json"] = Field(
        default="text", description="Lines for people, or one JSON object per line."
    )
    file: Filled | None = Field(
        default=None,
        description="File that lines are appended to; relative paths start at the state folder (`state_dir`). "
        "Without it, the log goes to standard error.",
        examples=["gateway.log"],
    )
    max_bytes: int = Field(
        default=16 * MIB,
        ge=0,
        description="Size at which the file becomes `FILE.1` and a new one is begun; 0: never.",
    )
    kept_files: int = Field(default=5, ge=0, le=100, description="Older files that are kept: `FILE.1`, `FILE.2`, ….")


class SecurityConfig(Section):
    """The keys of older files. They set the plugins `security_ratelimit` and `security_redact`."""

    log_requests: bool = Field(default=True, description="Log the payloads of requests, redacted (`security_redact`).")
    log_responses: bool = Field(default=True, description="Log the payloads of answers, redacted (`security_redact`).")
    redact_patterns: Patterns = Field(
        default=("api[_-]?key", "password", "token"),
        description="RE2 patterns of keys whose values are hidden in the log, besides the built-in names and shapes of "
        "secrets (`security_redact.patterns`).",
    )
    rate_limit_per_minute: int = Field(
        default=60, ge=0, description="Calls a minute per agent and tool; 0 switches it off (`security_ratelimit`)."
    )


class TrustedProxiesConfig(Section):
    """Proxies before the gateway, such as nginx, and what they say about their clients. Others are not believed."""

    networks: Networks = Field(
        default=(),
        description="Addresses and networks of the proxies. Each of their clients then has separate sessions and "
        "limits.",
        examples=[["127.0.0.1", "10.0.0.0/8"]],
    )
    header: Literal["X-Forwarded-For", "Forwarded"] = Field(
        default="X-Forwarded-For",
        description="The header in which they name the address of the client. They must set it, or add to it.",
    )
    identity_header: IdentityHeader | None = Field(
        default=None,
        description="The header in which they name the person whom they have authenticated. They must remove it from "
        "the requests of their clients.",
        examples=["X-Forwarded-User"],
    )


class OverrideConfig(Section):
    """What a profile changes about one tool."""

    tool: Filled = Field(
        description="The tool: its published name or `upstream:tool`.", examples=["tickets__search_issues"]
    )
    name: ToolName | None = Field(
        default=None, description="The name that agents of the profile use.", examples=["search_tickets"]
    )
    title: str | None = Field(default=None, description="Its title, for people.", examples=["Search tickets"])
    description: str | None = Field(
        default=None, description="Its description, for models.", examples=["Search the tickets of the support team."]
    )
    annotations: dict[str, bool | str] = Field(
        default_factory=dict,
        description="Hints in place of its own ones with the same names. Plugins believe them as they believe those of "
        "the server.",
        examples=[{"readOnlyHint": True}],
    )
    fixed: JsonValues = Field(
        default_factory=dict,
        description="Arguments that are always sent. Agents do not see them; a call that gives one is refused.",
        examples=[{"project": "SUPPORT"}],
        repr=False,
    )
    defaults: JsonValues = Field(
        default_factory=dict,
        description="Arguments that are sent unless a call gives them. Agents do not see them.",
        examples=[{"limit": 20}],
        repr=False,
    )


class ProfileConfig(Section):
    """A view of the gateway for some agents: fewer tools, under other names, with arguments that are set."""

    name: ProfileName = Field(description="Unique name, also in the address `/mcp/p/NAME`.", examples=["support"])
    title: str | None = Field(
        default=None, description="The title of the server that agents are told.", examples=["Support desk"]
    )
    instructions: str | None = Field(
        default=None,
        description="What agents are told about the use of the tools, in place of what the upstreams say.",
        examples=["Search before you create a ticket."],
    )
    tools: Strings = Field(
        default=("*",),
        description="Globs of the tools: published names or `upstream:tool`; `*` and `?` are wild. A glob after `!` "
        "hides what it matches, whatever the others say.",
        examples=[["tickets__*", "!*delete*"]],
    )
    prompts: Strings = Field(default=(), description="The same for prompts.", examples=[["wiki:*"]])
    resources: Strings = Field(
        default=(),
        description="The same for the URIs of resources and for URI templates. The user interface of a visible tool "
        "is always included.",
        examples=[["wiki:*"]],
    )
    groups: Strings | None = Field(
        default=None, description="Principals of any of these groups get the profile.", examples=[["support"]]
    )
    claims: dict[str, Filled] | None = Field(
        default=None,
        description="Principals with all of these claims get the profile. A claim that is a list must have the value.",
        examples=[{"team": "support"}],
    )
    by_address: bool = Field(
        default=True,
        description="Whether agents reach it at `/mcp/p/NAME`: all, or those that `groups` and `claims` admit.",
    )
    default: bool = Field(default=False, description="Whether all agents get it that get no other profile.")
    overrides: Annotated[tuple[OverrideConfig, ...], BeforeValidator(as_tuple)] = Field(
        default=(), description="What it changes about single tools."
    )
