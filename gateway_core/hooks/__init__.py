"""Calls the plugins' hooks; the set of hook implementations is fixed at start.

A **stage** is one plugin's `before_call` and `after_call` for one method. The stages of a method run in TOML order
before the call and in reverse order after it. A **strategy** is a hook that at most one plugin implements:
`route_tool`, `resolve_conflict`, `trace_call`. `ChainProgress` holds the `after_call` hooks that are due for one call.

pluggy's markers name the hooks, and the loader lets pluggy check the plugins against the specs. pluggy does not call
them: it does not support async, and an exception from `pm.hook.x()` does not name its plugin. `Chain` calls the marked
methods.

Verdicts are values, exceptions are bugs. An exception, a wrong return type or a timeout of a hook is logged without the
exception's text, which may quote the payload. The plugin's `on_error` decides how the call continues. Only what
`call.arguments` and `call.meta` raise is the fault of the agent.

`loader` finds and constructs plugins, `checks` look at their classes, `implementations` describes hooks, `verdicts`
checks what they return, `forms` the forms of questions, `failures` handles failed ones.
"""

from gateway_core.hooks.chain import Chain, Question
from gateway_core.hooks.implementations import HOOKS, LoadedPlugin
from gateway_core.hooks.observers import ChainProgress

__all__ = ["HOOKS", "Chain", "ChainProgress", "LoadedPlugin", "Question"]
