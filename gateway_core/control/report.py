"""JSON values of `GET /admin/*`, which `rad mcp proxy status` and `tools` print.

They contain no secrets, session ids or payloads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast
from urllib.parse import urlsplit

from gateway_core.catalog import Catalog
from gateway_core.catalog.entry import Entry
from gateway_core.config import UpstreamConfig
from gateway_core.config.secrets import without_secrets
from gateway_core.errors import RpcError
from gateway_core.hooks import LoadedPlugin
from gateway_core.hooks.times import HookTimes
from gateway_core.log.loop_lag import BOUNDS, Lags, LoopLag
from gateway_core.mcp import jsonrpc
from gateway_core.upstream.auth.tokens import RenewalCounts
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from gateway_core.upstream.upstream import Upstream

if TYPE_CHECKING:
    from gateway_core.control import shapes


def upstream(of: Upstream) -> shapes.UpstreamState:
    """State and counters of one upstream."""
    fetched = of.fetched or FetchedLists()
    status, latency, info, age = of.status, of.facts.latency, of.info, of.published.age
    retry, error, words = status.retry_in(), status.last_error, status.last_words
    return {
        "name": of.name,
        "transport": of.config.transport,
        "target": _target(of.config),
        "priority": of.config.priority,
        "group": of.config.group,
        "state": str(of.facts.state),
        "era": of.facts.era,
        "protocol_version": info.protocol_version if info is not None else None,
        "server": f"{info.name} {info.version}".strip() if info is not None else None,
        "tools": len(fetched.of("tool")),
        "resources": len(fetched.of("resource")),
        "prompts": len(fetched.of("prompt")),
        "lists": _lists(of),
        "warnings": [*filter(None, [status.unsteady, of.connections.stale_files]), *fetched.warnings],
        "lists_age": None if age is None else round(age, 1),
        "in_flight": of.facts.in_flight,
        "queued": of.limiter.queued,
        "connects": status.connects,
        "ejections": status.ejections,
        "calls": of.calls,
        "errors": of.errors,
        "latency_ms": None if latency is None else round(latency * 1000, 1),
        "last_error": f"{error}: {words}" if error and words else error,
        "next_retry_in": None if retry is None else round(retry, 1),
        "identities": None if of.identities is None else len(of.identities),
        "drained": status.drained,
        "login": None if of.connections.login is None else cast("shapes.LoginState", of.connections.login.report()),
        "tokens": _tokens(of),
    }


def _tokens(of: Upstream) -> shapes.TokenState | None:
    """The access tokens that the gateway obtains for an upstream; None if it obtains none."""
    own = None if of.connections.http is None else of.connections.http.tokens
    principals = None if of.identities is None else of.identities.tokens
    if own is None and principals is None:
        return None
    return {
        "expires_at": None if own is None else own.expires_at,
        "renewals": None if own is None else _renewals(own.counts),
        "user_renewals": None if principals is None else _renewals(principals.counts),
    }


def _renewals(counts: RenewalCounts) -> shapes.Renewals:
    return {"renewed": counts.renewed, "failed": counts.failed, "login_needed": counts.login_needed}


def loop(lag: LoopLag) -> shapes.LoopCounts:
    """How late the event loop was."""
    lags = lag.lags
    return {
        "blocked": lag.blocked,
        "blocked_seconds": round(lag.blocked_seconds, 3),
        "lags": None if lags is None else _lags(lags),
    }


def _lags(of: Lags) -> shapes.LoopLags:
    return {"bounds": list(BOUNDS), "counts": list(of.counts), "seconds": round(of.seconds, 6)}


class _About(TypedDict):
    """What the entries of the catalog have in common."""

    upstreams: list[str]
    description: str


def plugin_with_settings(loaded: LoadedPlugin, times: HookTimes | None) -> shapes.PluginWithSettings:
    """One enabled plugin with its settings, in which secrets are hidden."""
    settings = {} if loaded.config is None else loaded.config.model_dump(mode="json", fallback=str)
    return {**plugin(loaded, times), "settings": without_secrets(settings)}


def plugin(loaded: LoadedPlugin, times: HookTimes | None) -> shapes.PluginState:
    """One enabled plugin. `times`: how long its hooks took, if that is measured."""
    spent = {} if times is None else times.of(loaded.name)
    return {
        "name": loaded.name,
        "version": loaded.version,
        "hooks": list(loaded.hooks),
        "on_error": loaded.on_error,
        "warnings": list(loaded.warnings),
        "times": {name: {"calls": it.calls, "seconds": round(it.seconds, 6)} for name, it in spent.items()},
    }


def disabled(config: UpstreamConfig) -> shapes.UpstreamState:
    """The state of an upstream that the file switches off."""
    return {
        "name": config.name,
        "transport": config.transport,
        "target": _target(config),
        "priority": config.priority,
        "group": config.group,
        "state": "disabled",
        "era": None,
        "protocol_version": None,
        "server": None,
        "tools": 0,
        "resources": 0,
        "prompts": 0,
        "lists": "none",
        "warnings": [],
        "drained": False,
        "lists_age": None,
        "in_flight": 0,
        "queued": 0,
        "connects": 0,
        "ejections": 0,
        "calls": 0,
        "errors": 0,
        "latency_ms": None,
        "last_error": None,
        "next_retry_in": None,
        "identities": None,
        "login": None,
        "tokens": None,
    }


def _lists(of: Upstream) -> str:
    """State of the lists that agents see of it: `current`, `incomplete`, `last known` or `none`."""
    if of.fetched is None:
        return "none"
    if not of.reachable or of.published.behind:
        return "last known"
    return "incomplete" if of.fetched.failures else "current"


def _target(config: UpstreamConfig) -> str:
    """An upstream's address for people: the command without arguments, or the URL without path, which may be secret."""
    if config.url is None:
        return config.command or ""
    parts = urlsplit(config.url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def tools(
    catalog: Catalog, upstreams: Sequence[Upstream], profile: str = "", principal: str | None = None
) -> shapes.CatalogEntries:
    """What agents see, the decisions on name conflicts, the replicas, the notes and the warnings.

    `profile`: of the agents; empty for those without one. `principal`: whose private lists count; None: no agent's.
    Raises `UnknownProfile`.
    """
    snapshot, notes = catalog.snapshot, catalog.notes()
    if profile:
        notes = [remark.text for remark in catalog.profiles.remarks(snapshot, profile)]
    if profile or principal is not None:
        snapshot = catalog.snapshots_of(principal, profile)[0]
    return {
        "tools": [
            {
                "name": entry.name,
                "published_name": entry.published,
                "original_name": entry.original,
                "upstreams": [owner.name for owner in entry.upstreams],
                "description": entry.tool.definition.get("description", "") if entry.tool is not None else "",
                "annotations": dict(entry.tool.annotations) if entry.tool is not None else {},
            }
            for entry in snapshot.tools.values()
        ],
        "resources": [
            {"uri": entry.name, "original_uri": entry.original, "name": title, **about}
            for entry, title, about in map(_described, snapshot.resources.values())
        ],
        "templates": [
            {"uri_template": entry.name, "original_uri_template": entry.original, "name": title, **about}
            for entry, title, about in map(_described, snapshot.templates.values())
        ],
        "prompts": [
            {"name": entry.name, "original_name": entry.original, "arguments": _arguments(entry), **about}
            for entry, _, about in map(_described, snapshot.prompts.values())
        ],
        "conflicts": [
            {
                "kind": decision.kind,
                "name": decision.name,
                "outcome": decision.outcome,
                "claims": [
                    {"upstreams": list(owners), "published": published} for published, owners in decision.published
                ],
            }
            for decision in snapshot.decisions
        ],
        "replicas": [
            {"upstreams": list(found.upstreams), "reason": found.reason, "tools": list(found.names.get("tool", ()))}
            for found in snapshot.replicas
        ],
        "profiles": sorted(catalog.profiles.profiles),
        "notes": notes,
        "warnings": [
            *snapshot.warnings,
            *(warning for of in upstreams for warning in _warnings(of)),
        ],
    }


def _described(entry: Entry) -> tuple[Entry, str, _About]:
    """An entry, the name in its definition, and what all kinds of entries have in common."""
    given = _definition(entry)
    words = [found if isinstance(found := given.get(key), str) else "" for key in ("name", "description")]
    return entry, words[0], {"upstreams": [owner.name for owner in entry.upstreams], "description": words[1]}


def _arguments(prompt: Entry) -> list[shapes.PromptArgument]:
    """The arguments of a prompt that have a name."""
    listed = _definition(prompt).get("arguments")
    return [
        {
            "name": one["name"],
            "description": text if isinstance(text := one.get("description"), str) else "",
            "required": one.get("required") is True,
        }
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and isinstance(one.get("name"), str)
    ]


def _definition(entry: Entry) -> dict[str, Any]:
    """What the upstream says about an entry; empty if that is not an object."""
    try:
        definition = jsonrpc.value(entry.raw)
    except RpcError:
        return {}
    return definition if isinstance(definition, dict) else {}


def tool(catalog: Catalog, name: str, profile: str = "", principal: str | None = None) -> shapes.ToolDefinition:
    """One tool and its definition, which is None if no list of an upstream has the tool. Arguments as for `tools`."""
    catalog.profiles.check(profile)
    target = catalog.tool(name, principal, profile)
    known = None if target is None else target.tool
    return {
        "name": name,
        "published_name": None if known is None else known.name,
        "original_name": None if target is None else target.original,
        "upstreams": [] if target is None else [upstream.name for upstream in target.upstreams],
        "definition": None if known is None else dict(known.definition),
        "notes": [],
    }


def _warnings(of: Upstream) -> Sequence[str]:
    """What is missing from the lists of one upstream, and why."""
    if of.fetched is not None:
        return of.fetched.warnings
    error = of.status.last_error
    if error is None:
        return (f"{of.name}: not reached yet, its tools are still to come",)
    return (f"{of.name}: not reached so far, its tools are not known: {error}",)
