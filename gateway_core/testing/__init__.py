"""Test kit for plugins: makes the arguments of every hook, and runs hooks and calls.

`run_hook` runs one hook of one plugin. `run_call` sends a call through the gateway's pipeline with several plugins to
a `FakeUpstream`, without a network; a `FakeUser` answers the questions of plugins. Both refuse a plugin that the
gateway would not load. The gateway itself uses nothing from this package.
"""

from __future__ import annotations

from gateway_core.testing.fakes import FakeUpstream, make_result
from gateway_core.testing.makers import (
    make_authentication_ended,
    make_begun,
    make_call,
    make_call_ended,
    make_conflict,
    make_credentials,
    make_known,
    make_upstream,
    make_upstream_changed,
)
from gateway_core.testing.running import configured, run_call, run_hook
from gateway_core.testing.users import FakeUser

__all__ = [
    "FakeUpstream",
    "FakeUser",
    "configured",
    "make_authentication_ended",
    "make_begun",
    "make_call",
    "make_call_ended",
    "make_conflict",
    "make_credentials",
    "make_known",
    "make_result",
    "make_upstream",
    "make_upstream_changed",
    "run_call",
    "run_hook",
]
