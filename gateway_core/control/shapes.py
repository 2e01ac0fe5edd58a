"""The JSON values of the control plane's answers about the gateway, its upstreams, plugins and catalog."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

Seconds = Annotated[float, Meta(description="Seconds")]
UnixTime = Annotated[float, Meta(description="Seconds since 1970, UTC")]


class LoginState(TypedDict):
    """The state of a login at an upstream."""

    needed: bool
    reason: str | None
    users: Annotated[int | None, Meta(description="Users that have a login; null if only the operator logs in")]
    users_due: Annotated[int | None, Meta(description="Those of them whose login cannot be used any more")]
    issuer: str | None
    scopes: list[str]
    wanted: list[str]
    expires_in: Seconds | None
    renewable: bool


class Renewals(TypedDict):
    """How requests for access tokens ended."""

    renewed: int
    failed: int
    login_needed: int


class TokenState(TypedDict):
    """The access tokens that the gateway obtains for an upstream."""

    expires_at: Annotated[
        UnixTime | None, Meta(description="Of the gateway's own token; null if there is no such time")
    ]
    renewals: Annotated[
        Renewals | None, Meta(description="Of the gateway's own tokens, since the start; null if it obtains none")
    ]
    user_renewals: Annotated[
        Renewals | None, Meta(description="Of the tokens of all users, since the start; null if they get none")
    ]


class UpstreamState(TypedDict):
    """State and counters of one upstream."""

    name: str
    transport: str
    target: Annotated[str, Meta(description="The command without arguments, or the URL without path")]
    priority: int | None
    group: str | None
    state: Annotated[str, Meta(description="healthy, connecting, down, ejected, draining, disabled …")]
    era: Literal["legacy", "modern"] | None
    protocol_version: str | None
    server: Annotated[str | None, Meta(description="Name and version, as the server says")]
    tools: int
    resources: int
    prompts: int
    lists: Annotated[str, Meta(description="What agents see: current, incomplete, last known or none")]
    warnings: list[str]
    lists_age: Seconds | None
    in_flight: int
    queued: int
    connects: int
    ejections: int
    calls: int
    errors: int
    latency_ms: float | None
    last_error: str | None
    next_retry_in: Seconds | None
    identities: Annotated[int | None, Meta(description="Identities that are connected; null if it has none")]
    drained: Annotated[bool, Meta(description="Whether an operator keeps new calls from it")]
    login: LoginState | None
    tokens: Annotated[TokenState | None, Meta(description="Null if the gateway obtains none for it")]


class HookTime(TypedDict):
    """What a hook of a plugin took, if that is measured."""

    calls: int
    seconds: Seconds


class PluginState(TypedDict):
    """One enabled plugin."""

    name: str
    version: str
    hooks: list[str]
    on_error: Literal["reject", "ignore"]
    warnings: list[str]
    times: dict[str, HookTime]


class PluginWithSettings(PluginState):
    """One enabled plugin with its settings, in which secrets are hidden."""

    settings: dict[str, Any]


class Memory(TypedDict):
    """Bytes of `limits.memory`, and how many of them are used."""

    limit: int
    used: int


class LogCounts(TypedDict):
    """What is wrong with the log, and how many lines it lost."""

    warnings: list[str]
    dropped: int


class LoopLags(TypedDict):
    """How late the event loop ran a timer, which it runs about 20 times a second."""

    bounds: Annotated[list[float], Meta(description="Upper bounds of the counts, in seconds, ascending")]
    counts: Annotated[
        list[int], Meta(description="Runs up to each bound and above the one before, last those above all")
    ]
    seconds: Annotated[float, Meta(description="Seconds by which all of them were late")]


class LoopCounts(TypedDict):
    """How often, and for how long in all, the event loop was late."""

    blocked: int
    blocked_seconds: Seconds
    lags: Annotated[LoopLags | None, Meta(description="Null unless a plugin measures them")]


class Status(TypedDict):
    """The state of the gateway."""

    pid: int
    version: str
    started: UnixTime
    uptime: Seconds
    address: Annotated[str, Meta(description="Where agents connect; empty without a listener")]
    certificate: Annotated[dict[str, Any] | None, Meta(description="Of the listener; null without TLS")]
    control: str
    transport: str
    default_profile: str
    generation: Annotated[int, Meta(description="Counts the configurations that were in force")]
    config: str | None
    ready: bool
    draining: bool
    connections: int
    sessions: int
    in_flight: int
    parked: Annotated[int, Meta(description="Calls that wait for an answer of a person")]
    calls: int
    rejected: Annotated[int, Meta(description="Requests that the gateway rejected: full, short of memory or stopping")]
    unseen_changes: Annotated[int, Meta(description="Changed definitions that no operator has marked as seen")]
    memory: Memory
    max_timeout: Seconds
    log: LogCounts
    loop: LoopCounts
    upstreams: list[UpstreamState]
    plugins: list[PluginState]


class ToolEntry(TypedDict):
    """One tool that agents see."""

    name: str
    published_name: Annotated[str, Meta(description="In the gateway's own lists; a profile may rename it")]
    original_name: Annotated[str, Meta(description="What its upstreams call it")]
    upstreams: list[str]
    description: str
    annotations: dict[str, Any]


class PromptArgument(TypedDict):
    """One argument of a prompt."""

    name: str
    description: str
    required: bool


class PromptEntry(TypedDict):
    """One prompt that agents see."""

    name: str
    original_name: str
    upstreams: list[str]
    description: str
    arguments: list[PromptArgument]


class ResourceEntry(TypedDict):
    """One resource that agents see."""

    uri: str
    original_uri: str
    name: str
    upstreams: list[str]
    description: str


class TemplateEntry(TypedDict):
    """One template of resources that agents see."""

    uri_template: str
    original_uri_template: str
    name: str
    upstreams: list[str]
    description: str


class Claim(TypedDict):
    """Which name some upstreams got; null if the claim was dropped."""

    upstreams: list[str]
    published: str | None


class Conflict(TypedDict):
    """How one conflict of names was resolved."""

    kind: Literal["tool", "prompt", "resource", "template"]
    name: str
    outcome: str
    claims: list[Claim]


class Replicas(TypedDict):
    """Upstreams that serve the same tools, and why they count as replicas."""

    upstreams: list[str]
    reason: str
    tools: list[str]


class CatalogEntries(TypedDict):
    """What agents see, and where it comes from."""

    tools: list[ToolEntry]
    resources: list[ResourceEntry]
    templates: list[TemplateEntry]
    prompts: list[PromptEntry]
    conflicts: list[Conflict]
    replicas: list[Replicas]
    profiles: Annotated[list[str], Meta(description="The names of all profiles")]
    notes: list[str]
    warnings: list[str]


class ToolDefinition(TypedDict):
    """One tool and its definition; null where no list of an upstream has it."""

    name: str
    published_name: str | None
    original_name: str | None
    upstreams: list[str]
    definition: dict[str, Any] | None
    notes: Annotated[list[str], Meta(description="For an agent: why its list of tools is incomplete or may differ")]


class RecentAgent(TypedDict):
    """One agent, as its last recorded calls showed it."""

    agent: str
    verified: bool
    era: Annotated[Literal["legacy", "modern"], Meta(description="Of its last call")]
    clients: Annotated[list[str], Meta(description="The last clients that sent its calls, as they say; at most 5")]


class RecentAgents(TypedDict):
    """The last 1000 agents of which calls were recorded. Those seen last come last."""

    agents: list[RecentAgent]


class LimitLeft(TypedDict):
    """What one limit of a plugin leaves one agent."""

    plugin: str
    what: Annotated[str, Meta(description="What is limited, in words: the name of a tool, or `each other tool`")]
    limit: int
    per: Annotated[str, Meta(description="minute, day …")]
    of: Annotated[str, Meta(description="Whose limit it is: agent, or address for all agents at its address")]
    remaining: Annotated[int, Meta(description="How much is allowed now")]
    wait: Annotated[Seconds, Meta(description="Seconds until something is allowed; 0 if it is now")]


class AgentLimits(TypedDict):
    """What limits leave an agent, as the plugins that enforce them say."""

    agent: str
    verified: bool
    limits: list[LimitLeft]
    problems: Annotated[list[str], Meta(description="Plugins whose limits cannot be read")]


class LiveCall(TypedDict):
    """One call that has not ended."""

    id: str
    method: str
    name: str
    agent: str
    verified: bool
    era: Literal["legacy", "modern"]
    session: str | None
    upstream: str | None
    sent: Annotated[bool, Meta(description="Whether a byte has left for an upstream")]
    asking: Annotated[bool, Meta(description="Whether its agent is asked something")]
    parked: Annotated[bool, Meta(description="Whether it waits for a modern agent to come back")]
    seconds: Seconds


class OpenSession(TypedDict):
    """One session of an agent."""

    key: str
    agent: str
    verified: Annotated[bool, Meta(description="Whether credentials prove who the agent is")]
    profile: Annotated[str, Meta(description="What it sees of the gateway; empty without a profile")]
    client: str | None
    protocol_version: str | None
    streams: int
    calls: int
    subscriptions: int
    idle: Seconds | None


class Change(TypedDict):
    """One difference between two configurations."""

    kind: str
    name: str
    how: str
    details: list[str]
    restart: Annotated[str, Meta(description="Why it needs a restart; empty if a reload applies it")]


class Changes(TypedDict):
    """What a reload changed, or would change."""

    generation: int
    changes: list[Change]
