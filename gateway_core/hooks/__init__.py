"""The hook calls, frozen at start.

A **stage** is one plugin's `before_call` and `after_call` for one method; the stages of a method run in the order
of the TOML on the way in and in reverse on the way out. A **strategy** is a hook that one plugin at most has:
`route_tool`, `resolve_conflict`. `ChainProgress` holds, for one call, the `after_call` that are due.

pluggy registers the plugins and checks them against the specs; it does not call them. It has no async, and an
exception out of `pm.hook.x()` does not say whose it is. So `Chain` reads `get_hookimpls()` once and keeps tuples.

Verdicts are values, exceptions are bugs: a raise, a wrong return type or a hook that overran its time is logged
once, without its text (which may quote the payload), and the plugin's `on_error` decides what becomes of the call.

`hooks` knows implementations, `verdicts` checks what they return, `failures` says what a failed one leads to.
"""

from gateway_core.hooks.chain import Chain, ChainProgress
from gateway_core.hooks.implementations import HOOKS, LoadedPlugin, manager

__all__ = ["HOOKS", "Chain", "ChainProgress", "LoadedPlugin", "manager"]
