"""All endpoints of the control plane."""

from __future__ import annotations

from typing import Protocol

from gateway_core.control import plugin_pages
from gateway_core.control.dashboard import Dashboard
from gateway_core.control.endpoint import AnyEndpoint
from gateway_core.control.endpoints import (
    activity,
    agents,
    browsers,
    calls,
    catalog,
    configuration,
    definitions,
    description,
    health,
    sessions,
    state,
    trials,
    upstreams,
)


class Operations(
    activity.Operations,
    agents.Operations,
    browsers.Operations,
    calls.Operations,
    catalog.Operations,
    configuration.Operations,
    definitions.Operations,
    health.Operations,
    plugin_pages.Operations,
    sessions.Operations,
    state.Operations,
    trials.Operations,
    upstreams.Operations,
    Protocol,
):
    """What the control plane needs from the gateway; a protocol, because the gateway imports this package."""


def table(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """All endpoints; each reads `operations` when it is asked, not before."""
    parts = (
        *(health, browsers, state, catalog, definitions, activity, agents),
        *(calls, sessions, upstreams, configuration, trials),
    )
    found = (endpoint for part in parts for endpoint in part.endpoints(operations))
    everything = (*found, *description.endpoints(operations, lambda: everything), *Dashboard().endpoints())
    return everything
