"""Counts calls and shows the figures of the gateway to Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field, SecretStr, field_validator

from gateway_core import AuthenticationEnded, CallEnded, Event, Page, Plugin, PluginConfig, hookimpl
from gateway_observe_metrics.counts import Calls, Counter
from gateway_observe_metrics.exposition import render

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
MAX_RULES: Final = 1000
"""Combinations of plugin, decision and rule that are counted one by one."""


class Settings(PluginConfig):
    """The settings of the plugin in the TOML."""

    path: str = Field(default="/metrics", description="where the figures are on the control plane")
    token: SecretStr = Field(
        default=SecretStr(""),
        description="a bearer token for this page alone, besides the tokens of the control plane",
    )
    buckets: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        default=BUCKETS, min_length=1, max_length=50, description="upper bounds of durations, in seconds, ascending"
    )
    max_series: int = Field(
        default=2000,
        ge=1,
        le=100_000,
        description="combinations of method, upstream and tool that are counted one by one; others as `(other)`",
    )
    hook_times: bool = Field(default=False, description="measure how long each hook of each plugin takes")

    @field_validator("buckets")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(first >= second for first, second in pairwise(value)):
            raise ValueError("must be ascending")
        return value


class Metrics(Plugin[Settings]):
    """The plugin. It decides nothing."""

    measures_loop_lag = True

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.measures_hooks = config.hook_times
        self._calls = Calls(config.buckets, config.max_series)
        self._series, self._bounds = self._calls.series, self._calls.bounds
        self._waited = 0.0
        self._decisions: Counter[tuple[str, str, str]] = Counter(MAX_RULES)
        self._authentications: Counter[tuple[str, str]] = Counter(MAX_RULES)
        self.pages = [Page(config.path, self._render, CONTENT_TYPE_LATEST, config.token.get_secret_value())]

    @hookimpl
    def observe(self, event: Event) -> None:
        """Count a call or an authentication that has ended."""
        if isinstance(event, CallEnded):
            final = event.final
            # The published name: what agents write is any number of names, and of a task its id, which grants access.
            tool = None if final is None else final.tool
            key = (event.method, event.upstream, "" if tool is None else tool.name, event.result.outcome)
            found = self._series.get(key) or self._calls.new(key)  # as few steps as possible: each call takes them
            found[bisect_left(self._bounds, event.seconds)] += 1
            found[-1] += event.seconds
            if event.waited:
                self._waited += event.waited
            if event.decisions:
                for decision in event.decisions:
                    self._decisions.add((decision.plugin, decision.decided, decision.rule))
        elif isinstance(event, AuthenticationEnded):
            result = "refused" if event.principal is None else "accepted"
            self._authentications.add((event.plugin, result))

    def _render(self, status: Mapping[str, Any]) -> bytes:
        return render(self._calls, self._waited, self._decisions, self._authentications, status)
