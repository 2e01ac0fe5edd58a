"""The base class of every table of the file, and the tables that depend on no other."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway_core.config.fields import Filled, Host, IdentityHeader, Name, Networks, Patterns

MIB = 1024 * 1024


class Section(BaseModel):
    """Base of every table: no unknown keys, no conversions between types, no values in error texts."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True, validate_default=False
    )

    not_in_file: ClassVar[frozenset[str]] = frozenset()
    """Fields that `load` sets and that are not keys of the file."""
    file_names: ClassVar[tuple[str, ...]] = ()
    """The keys that name files or folders."""

    @classmethod
    def file_keys(cls) -> list[str]:
        """The keys that the table may have in the file."""
        return [key for key in cls.model_fields if key not in cls.not_in_file]


class ControlConfig(Section):
    """The control plane: the API for operators and the dashboard, on a listener that agents do not use."""

    host: Host = Field(
        default="127.0.0.1",
        description="Address to listen on. Its tokens are sent unencrypted: keep it on loopback.",
    )
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="TCP port to listen on; 0 takes a free one, which the commands find through the pid file.",
    )
    allow_commands: bool = Field(
        default=False,
        description="Whether the control plane may write into this file what runs programs, names files, reads "
        "variables, or sends a secret of the file elsewhere. It cannot set this key itself.",
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

    file_names = ("file",)

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
    """Short forms of settings of the plugins `security_ratelimit` and `security_redact`."""

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


class PluginEntry(Section):
    """One plugin to load. All keys but `name`, `enabled` and `on_error` are the plugin's own settings."""

    not_in_file: ClassVar[frozenset[str]] = frozenset({"settings", "line", "key_lines", "sources"})

    name: Name = Field(
        description="The plugin's name, as `rad mcp proxy plugins` shows it.", examples=["security_redact"]
    )
    enabled: bool = Field(default=True, description="`false` keeps the entry and does not load the plugin.")
    on_error: Literal["reject", "ignore"] = Field(
        default="reject",
        description="Whether a call in which the plugin fails is refused, or continues without the plugin.",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="The plugin's own keys.", repr=False)
    line: int | None = Field(default=None, description="Line of the entry's header.", repr=False)
    key_lines: dict[str, int] = Field(
        default_factory=dict,
        description="Lines of its settings, by dotted path inside the entry (`patterns`, `patterns[1]`, `a.b`).",
        repr=False,
    )
    sources: dict[str, str] = Field(
        default_factory=dict,
        description="Where settings with `${…}` came from, in words, by dotted path inside the entry.",
        repr=False,
    )


RESERVED: Final = frozenset(PluginEntry.model_fields) - PluginEntry.not_in_file
"""Keys of an entry that the gateway reads; all others are settings of the plugin."""
