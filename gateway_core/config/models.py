"""The keys of `.radium/mcp-proxy.toml`, one frozen model per table.

Every field has a description and, if the default does not show its form, an example. The error messages and
`docs/configuration.md` use both. Sizes are bytes, times are seconds. `rules.py` checks relations between keys
(`command` only for stdio, unique names, …), so that all mistakes are found at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from gateway_core.config.auth import AuthConfig
from gateway_core.config.fields import (
    AllowedHosts,
    Arguments,
    Environment,
    Filled,
    Forward,
    Headers,
    Host,
    Name,
    Origins,
    ProxyUrl,
    PublicUrl,
    Retry,
    Separator,
    StateKeys,
    Strings,
    Url,
    as_tuple,
)
from gateway_core.config.forwarding.sources import ForwardSource
from gateway_core.config.profiles import ProfileConfig
from gateway_core.config.sections import (
    ControlConfig,
    LimitsConfig,
    LogConfig,
    NamesConfig,
    PluginEntry,
    Section,
    SecurityConfig,
    TrustedProxiesConfig,
)
from gateway_core.config.server_tls import ServerTlsConfig
from gateway_core.config.tls import TlsConfig
from gateway_core.mcp.literals import Transport

OnMissing = Literal["error", "skip"]
LAZY_IDLE_STOP: Final = 600.0
"""Seconds without use after which a lazy server is stopped, unless `idle_stop` says otherwise."""


class UpstreamConfig(Section):
    """One MCP server behind the gateway."""

    file_names = ("cwd",)

    name: Name = Field(
        description="Unique name, in logs, in prefixed names and in `upstream:tool`.", examples=["github"]
    )
    enabled: bool = Field(
        default=True,
        description="`false` keeps the entry and does not connect to the server; its variables need not be set.",
    )
    transport: Transport = Field(
        description="`stdio`: a child process; `http`: Streamable HTTP; `sse`: the older HTTP with SSE.",
        examples=["http"],
    )
    command: Filled | None = Field(
        default=None, description="Program to run (stdio; required there).", examples=["uvx"]
    )
    args: Arguments = Field(
        default=(),
        description="Its arguments, passed as they are, without a shell (stdio).",
        examples=[["mcp-server-time"]],
        repr=False,
    )
    env: Environment = Field(
        default_factory=dict,
        description="Environment variables for it, besides HOME, LOGNAME, PATH, SHELL, TERM and USER (stdio).",
        examples=[{"API_KEY": "${API_KEY}"}],
        repr=False,
    )
    cwd: Filled | None = Field(
        default=None,
        description="Folder it runs in; relative paths start at the configuration file's folder. "
        "Without it, the folder the gateway was started in (stdio).",
        examples=["../data"],
    )
    url: Url | None = Field(
        default=None,
        description="Address of the MCP endpoint (http and sse; required there).",
        examples=["http://localhost:8080/mcp"],
        repr=False,
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Headers sent with every request (http and sse).",
        examples=[{"Authorization": "Bearer ${TOKEN}"}],
        repr=False,
    )
    forward: Forward = Field(
        default_factory=dict,
        description="Headers with values of the agent that calls: `principal.subject`, `.issuer`, `.id`, `.groups` "
        "(separated by commas), `.claims.NAME`, or `header:NAME`, a header of its request. Calls without a value are "
        "refused, unless a `?` follows it. Each identity gets connections for itself (http and sse).",
        examples=[{"X-User-Id": "principal.subject", "X-Api-Key": "header:X-Tracker-Key"}],
    )
    priority: int = Field(
        default=1,
        gt=0,
        description="A lower number is preferred; equal numbers share the load. Upstreams that all set it are replicas "
        "of the tools that they offer alike (`mcp.proxy.replicas`).",
    )
    health_check_interval: float = Field(default=30, gt=0, description="Seconds between two health checks.")
    start_timeout: float = Field(
        default=30, gt=0, description="Seconds to start and answer the handshake; again for each list.", examples=[120]
    )
    start: Literal["eager", "lazy"] = Field(
        default="eager",
        description="`eager`: it starts with the gateway; `lazy`: with its first call. Until then, agents see its last "
        "known lists; the first time, it is started once for them (stdio).",
    )
    idle_stop: float | None = Field(
        default=None,
        ge=0,
        description="Seconds without use after which it is stopped until the next call; `0`: never. Without it, 600 "
        "for `lazy`, and never for `eager` (stdio).",
        examples=[300.0],
    )
    tools: Strings | None = Field(
        default=None, description="When given, only these of its tools are used.", examples=[["search", "fetch"]]
    )
    timeout: float | None = Field(
        default=None, gt=0, description="Seconds for one call, in place of `mcp.proxy.timeout`.", examples=[20.0]
    )
    group: Name | None = Field(
        default=None,
        description="Upstreams of one group are replicas of the tools that they offer alike.",
        examples=["search-fleet"],
    )
    isolation: Literal["shared", "agent", "call"] = Field(
        default="shared",
        description="Connections of servers up to 2025-11-25: one for all agents, one per agent session (and per call "
        "for agents without sessions), or one leased to each call. Later ones keep nothing that needs it.",
    )
    retry: Retry = Field(
        default="never",
        description="`safe`: a call whose outcome is unknown may be sent once more; for all its tools, or per tool.",
        examples=[{"search": "safe"}],
    )
    trust_annotations: bool = Field(
        default=False, description="Believe its `readOnlyHint` and `idempotentHint`: such calls may be sent once more."
    )
    max_in_flight: int | None = Field(
        default=None, gt=0, description="Calls in flight to it; without it 128 (stdio: 32).", examples=[64]
    )
    on_missing: OnMissing | None = Field(
        default=None, description="In place of `mcp.proxy.on_missing`, for this upstream.", examples=["skip"]
    )
    auth: AuthConfig | None = Field(default=None, description="OAuth for it (http and sse).")
    proxy: ProxyUrl | None = Field(
        default=None,
        description='HTTP proxy for it and for its access tokens (http and sse); `"none"`: no proxy. Without it, '
        "`HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` of the environment decide, but never for loopback addresses.",
        examples=["http://proxy.example.com:3128"],
        repr=False,
    )
    tls: TlsConfig | None = Field(
        default=None, description="Certificates for https (http and sse).", examples=[{"ca": "company-ca.pem"}]
    )

    _misconfigured: str = PrivateAttr(default="")

    @property
    def of_users(self) -> bool:
        """Whether each principal logs in for itself."""
        return self.auth is not None and self.auth.identity == "user"

    @property
    def has_login(self) -> bool:
        """Whether a person logs in for it with a browser."""
        return self.auth is not None and self.auth.grant == "authorization_code"

    @property
    def has_identities(self) -> bool:
        """Whether requests go out in the names of agents, so that the server can tell them apart."""
        of_agents = self.auth is not None and self.auth.grant == "token_exchange"
        return bool(self.forward) or self.of_users or of_agents

    @property
    def idle_limit(self) -> float | None:
        """Seconds without use after which its process is stopped; None for never."""
        if self.idle_stop is not None:
            return self.idle_stop or None
        return LAZY_IDLE_STOP if self.start == "lazy" else None

    @property
    def forward_sources(self) -> dict[str, ForwardSource]:
        """The headers of `forward` with the sources of their values."""
        found = ((name, ForwardSource.parse(source)) for name, source in self.forward.items())
        return {name: source for name, source in found if source is not None}

    @property
    def misconfigured(self) -> str:
        """What the environment lacks for this upstream; empty if it can be connected to."""
        return self._misconfigured

    def lacking(self, reason: str) -> UpstreamConfig:
        """A copy that cannot be connected to. `reason`: what the environment lacks."""
        copy = self.model_copy()
        copy._lack(reason)
        return copy

    def _lack(self, reason: str) -> None:
        self._misconfigured = reason


class ProxyConfig(Section):
    """The gateway: where it listens, its limits, and what stands behind it."""

    file_names = ("state_dir",)

    enable: bool = Field(
        default=False, description="`start` refuses to run a file that does not say `true`.", examples=[True]
    )
    host: Host = Field(
        default="127.0.0.1", description="Address to listen on; other machines cannot reach a loopback address."
    )
    port: int = Field(default=3000, ge=1, le=65535, description="TCP port to listen on.")
    transport: Literal["http", "sse"] = Field(
        default="http", description="What agents speak: Streamable HTTP, or the older HTTP with SSE."
    )
    max_connections: int = Field(
        default=100, gt=0, description="Agents' connections at a time, from their first request on."
    )
    separator: Separator = Field(default="__", description="Stands between upstream and tool in prefixed names.")
    replicas: Literal["intent", "declared", "schema"] = Field(
        default="intent",
        description="Which upstreams that offer a tool with the same name and schemas serve it together. `intent`: "
        "those that all have a `priority` in the file, or share a `group`; never those of different groups. "
        "`declared`: only those that share a `group`. `schema`: all of them.",
    )
    names: NamesConfig = Field(default=NamesConfig(), description="Published names.")
    anonymous: bool = Field(
        default=False,
        description="`true` serves agents without credentials, as claimed principals. Without a plugin that "
        "authenticates agents, these are all agents, also on other machines.",
    )
    trusted_proxies: TrustedProxiesConfig = Field(
        default=TrustedProxiesConfig(), description="Proxies between agents and the gateway."
    )
    allowed_hosts: AllowedHosts = Field(
        default=(),
        description="Host names that agents and operators may use, besides loopback names and `host`.",
        examples=[["gateway.example.com"]],
    )
    public_url: PublicUrl | None = Field(
        default=None,
        description="The address at which browsers and agents reach the gateway. The addresses of its pages begin with "
        "it, and its host is an allowed host. Without it, the address that the gateway listens on.",
        examples=["https://gateway.example.com"],
    )
    allowed_origins: Origins = Field(
        default=(),
        description="Web origins whose pages may use the gateway (CORS), besides those of loopback and allowed hosts.",
        examples=[["https://app.example.com"]],
    )
    drain_timeout: float = Field(
        default=30.0, gt=0, description="Seconds that calls in flight get to end when it stops."
    )
    timeout: float = Field(
        default=60.0, gt=0, description="Seconds for one call; progress from the upstream starts them again."
    )
    max_timeout: float = Field(default=300.0, gt=0, description="Seconds after which a call ends even with progress.")
    question_timeout: float = Field(
        default=300.0,
        gt=0,
        description="Seconds that an agent has to answer a question that a server asks during a call. "
        "That time does not count against the call's own.",
    )
    state_keys: StateKeys = Field(
        default=(),
        description="Secrets that seal what agents carry for the gateway (states of calls, task ids, cursors), for "
        "several gateways behind one address: the first one seals, all of them open. "
        "Without it, each process has a random one.",
        examples=[["${GATEWAY_STATE_KEY}"]],
        repr=False,
    )
    state_dir: Filled | None = Field(
        default=None,
        description="Folder of the pid file, the names file, the last known lists and the log; relative paths start "
        "at the configuration file's folder. `--state-dir` takes its place. Without both, it is the configuration "
        "file's folder, or one below `$XDG_STATE_HOME/radium` (`~/.local/state/radium`) if that folder cannot be "
        "written.",
        examples=["/var/lib/radium"],
    )
    on_missing: OnMissing = Field(
        default="error",
        description="What an upstream does that names a variable that is not set, or a file that cannot be read. "
        "`error`: the file is not accepted. `skip`: only this upstream is left out, and listed as `misconfigured`.",
    )
    tls: ServerTlsConfig | None = Field(
        default=None, description="TLS for agents. Without it, they connect over plain HTTP."
    )
    control: ControlConfig = Field(default=ControlConfig(), description="The control plane.")
    limits: LimitsConfig = Field(default=LimitsConfig(), description="Upper bounds.")
    log: LogConfig = Field(default=LogConfig(), description="The log.")
    security: SecurityConfig = Field(default=SecurityConfig(), description="Short forms of settings of plugins.")
    upstreams: Annotated[tuple[UpstreamConfig, ...], BeforeValidator(as_tuple)] = Field(
        default=(), description="The MCP servers, in order."
    )
    profiles: Annotated[tuple[ProfileConfig, ...], BeforeValidator(as_tuple)] = Field(
        default=(), description="Views of the gateway for some agents."
    )
    plugins: Annotated[tuple[PluginEntry, ...], BeforeValidator(as_tuple)] = Field(
        default=(), description="The plugins, in the order in which they run. Without it, the default set."
    )

    @property
    def asks_certificates(self) -> bool:
        """Whether agents may present client certificates."""
        return self.tls is not None and self.tls.client_ca is not None


@dataclass(frozen=True, slots=True)
class Config:
    """A loaded file: its path, and its `[mcp.proxy]` with the plugin entries expanded."""

    path: Path | None
    proxy: ProxyConfig
    disabled: tuple[UpstreamConfig, ...] = ()
    """The upstreams that the file switches off; `proxy.upstreams` has the others."""


class McpTable(Section):
    """`[mcp]`, which contains only the gateway's table."""

    proxy: ProxyConfig = Field(description="The gateway's table.")


class FileTable(Section):
    """The whole file, as in TOML."""

    mcp: McpTable = Field(description="The file's only table.")
