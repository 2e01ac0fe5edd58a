"""Writes the figures in the text format of Prometheus, with the official client library.

Names and units follow Prometheus, "Metric and label naming": base units, and `_total` for counters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway_core import UpstreamState
from gateway_observe_metrics.counts import Calls, Counter

STATES: Final = (*(state.value for state in UpstreamState), "disabled")
"""The states of an upstream in the status, each of which is a series."""
Status: TypeAlias = Mapping[str, Any]

_GATEWAY: Final = (
    ("ready", "ready", "Whether agents are served (1) or not (0)."),
    ("connections", "connections", "Open connections of agents."),
    ("sessions", "sessions", "Open sessions of agents of revisions up to 2025-11-25."),
    ("calls_in_flight", "in_flight", "Calls that are being served."),
    ("calls_parked", "parked", "Calls that wait for the answers of their agents."),
)
"""Name, member of the status, and help of the gauges of the gateway."""
_UPSTREAM: Final = (
    (
        "calls_in_flight",
        "in_flight",
        "Requests to the upstream that have not ended, including requests that wait for a place.",
    ),
    ("calls_queued", "queued", "Requests that wait for a place at the upstream."),
    ("tools", "tools", "Tools that the upstream lists."),
)
_TOKEN_OWNERS: Final = (("gateway", "renewals"), ("users", "user_renewals"))
"""Label and member of the status for the renewals of access tokens."""
_UPSTREAM_TOTALS: Final = (
    ("requests", "calls", "Requests of agents to the upstream, attempts that failed included."),
    ("errors", "errors", "Requests of agents that the upstream did not answer, or with an error."),
    ("connects", "connects", "Connections opened to the upstream; each after the first is a reconnection."),
    ("ejections", "ejections", "How often the upstream was ejected because its calls failed."),
)
_LOGIN_NEEDED: Final = UpstreamState.NEEDS_LOGIN.value


def render(calls: Calls, waited: float, decisions: Counter[Any], logins: Counter[Any], status: Status) -> bytes:
    """All figures. `waited`: seconds for which calls waited for people. `status`: that of the gateway."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Found([*_of_calls(calls, waited), *_of_plugins(decisions, logins, status), *_of_state(status)]))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Found(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _of_calls(calls: Calls, waited: float) -> Iterator[Metric]:
    total = CounterMetricFamily(
        "radium_calls", "Requests of agents that have ended.", labels=("method", "upstream", "tool", "outcome")
    )
    duration = HistogramMetricFamily(
        "radium_call_duration_seconds",
        "How long requests of agents took in the gateway, the upstream's time included.",
        labels=("method", "upstream", "tool"),
    )
    bounds = [*map(str, map(float, calls.bounds)), "+Inf"]
    durations: dict[tuple[str, ...], tuple[list[float], float]] = {}
    for key, found in list(calls.series.items()):
        *below, seconds = found
        method, upstream, tool, outcome = key
        labels = (method, upstream or "", tool)
        total.add_metric((*labels, outcome), sum(below))
        others, before = durations.get(labels, ([0.0] * len(below), 0.0))
        durations[labels] = ([*map(sum, zip(others, below, strict=True))], before + seconds)
    for served, (counts, seconds) in durations.items():
        duration.add_metric(served, list(zip(bounds, accumulate(counts), strict=True)), sum_value=seconds)
    yield total
    yield duration
    yield CounterMetricFamily(
        "radium_call_waited_seconds", "Seconds of the durations in which people were asked.", waited
    )


def _of_plugins(decisions: Counter[Any], authentications: Counter[Any], status: Status) -> Iterator[Metric]:
    for name, help_text, labels, counter in (
        ("radium_plugin_decisions", "What plugins did with calls.", ("plugin", "decided", "rule"), decisions),
        (
            "radium_authentications",
            "Credentials that were looked at; remembered verdicts do not count.",
            ("plugin", "result"),
            authentications,
        ),
    ):
        family = CounterMetricFamily(name, help_text, labels=labels)
        for key, number in list(counter.counts.items()):
            family.add_metric(key, number)
        yield family
    runs = CounterMetricFamily("radium_hook_runs", "How often a hook ran.", labels=("plugin", "hook"))
    seconds = CounterMetricFamily(
        "radium_hook_seconds", "Seconds that a hook took, its waiting included.", labels=("plugin", "hook")
    )
    for plugin in status["plugins"]:
        for hook, spent in plugin["times"].items():
            runs.add_metric((plugin["name"], hook), spent["calls"])
            seconds.add_metric((plugin["name"], hook), spent["seconds"])
    yield runs
    yield seconds


def _of_state(status: Status) -> Iterator[Metric]:
    info = GaugeMetricFamily("radium_info", "The version of the gateway.", labels=("version",))
    info.add_metric((status["version"],), 1)
    yield info
    for name, member, help_text in _GATEWAY:
        yield GaugeMetricFamily(f"radium_{name}", help_text, status[member])
    yield CounterMetricFamily(
        "radium_requests_rejected",
        "Requests that began no call: the gateway was full, short of memory or stopping.",
        status["rejected"],
    )
    memory = status["memory"]
    yield GaugeMetricFamily("radium_memory_bytes", "Memory in use, as the limit counts it.", memory["used"])
    yield GaugeMetricFamily("radium_memory_limit_bytes", "The limit of the memory (limits.memory).", memory["limit"])
    yield CounterMetricFamily("radium_log_lines_dropped", "Log lines that were lost.", status["log"]["dropped"])
    loop = status["loop"]
    yield CounterMetricFamily("radium_loop_blocked", "How often the event loop was late.", loop["blocked"])
    yield CounterMetricFamily(
        "radium_loop_blocked_seconds", "By how many seconds the event loop was late.", loop["blocked_seconds"]
    )
    if lags := loop["lags"]:
        lag = HistogramMetricFamily("radium_loop_lag_seconds", "How late the event loop ran a timer.")
        bounds = [*map(str, lags["bounds"]), "+Inf"]
        lag.add_metric((), list(zip(bounds, accumulate(lags["counts"]), strict=True)), sum_value=lags["seconds"])
        yield lag
    yield from _of_upstreams(status["upstreams"])
    yield from _of_tokens(status["upstreams"])


def _of_upstreams(upstreams: Sequence[Status]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "radium_upstream_state", "1 for the state that the upstream is in.", labels=("upstream", "state")
    )
    for upstream in upstreams:
        for name in dict.fromkeys((*STATES, upstream["state"])):
            state.add_metric((upstream["name"], name), float(upstream["state"] == name))
    yield state
    for name, member, help_text in _UPSTREAM:
        gauge = GaugeMetricFamily(f"radium_upstream_{name}", help_text, labels=("upstream",))
        for upstream in upstreams:
            gauge.add_metric((upstream["name"],), upstream[member])
        yield gauge
    for name, member, help_text in _UPSTREAM_TOTALS:
        total = CounterMetricFamily(f"radium_upstream_{name}", help_text, labels=("upstream",))
        for upstream in upstreams:
            total.add_metric((upstream["name"],), upstream[member])
        yield total


def _of_tokens(upstreams: Sequence[Status]) -> Iterator[Metric]:
    """Access tokens and logins. No figure names a user."""
    expiry = GaugeMetricFamily(
        "radium_upstream_token_expiry_timestamp_seconds",
        "When the gateway's own access token for the upstream expires.",
        labels=("upstream",),
    )
    renewable = GaugeMetricFamily(
        "radium_upstream_token_renewable",
        "Whether the gateway can renew that token (1), or a person has to log in when it expires (0).",
        labels=("upstream",),
    )
    renewals = CounterMetricFamily(
        "radium_upstream_token_renewals",
        "Requests for access tokens for the upstream: the gateway's own tokens, or tokens of users.",
        labels=("upstream", "owner", "outcome"),
    )
    due = GaugeMetricFamily(
        "radium_upstream_login_due", "Whether the operator has to log in (1) or not (0).", labels=("upstream",)
    )
    users = GaugeMetricFamily(
        "radium_upstream_user_logins", "Logins of users, by whether they can be used.", labels=("upstream", "state")
    )
    identities = GaugeMetricFamily(
        "radium_upstream_identities", "Identities of agents that are connected to the upstream.", labels=("upstream",)
    )
    for upstream in upstreams:
        name, login, tokens = upstream["name"], upstream["login"], upstream["tokens"]
        if tokens is not None:
            if tokens["expires_at"] is not None:
                expiry.add_metric((name,), tokens["expires_at"])
                renewable.add_metric((name,), float(login is None or login["renewable"]))
            for owner, member in _TOKEN_OWNERS:
                for outcome, number in (tokens[member] or {}).items():
                    renewals.add_metric((name, owner, outcome), number)
        if login is not None:
            # Where each user logs in, the operator may.
            is_needed = login["needed"] and login["users"] is None
            due.add_metric((name,), float(is_needed or upstream["state"] == _LOGIN_NEEDED))
            if login["users"] is not None:
                users.add_metric((name, "usable"), login["users"] - login["users_due"])
                users.add_metric((name, "due"), login["users_due"])
        if upstream["identities"] is not None:
            identities.add_metric((name,), upstream["identities"])
    yield from (expiry, renewable, renewals, due, users, identities)
