"""The pages of the enabled plugins on the control plane."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway_core.api import Page
from gateway_core.hooks.failures import brief
from gateway_core.hooks.implementations import LoadedPlugin, Refuse, refused

MAX_PAGES: Final = 20
"""Maximum pages of one plugin."""
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_RESERVED: Final = frozenset({"admin", "api", "healthz", "readyz", "ui"})
"""First parts of paths that the gateway keeps for itself."""


@dataclass(frozen=True, slots=True)
class PluginPage:
    """A page, and the plugin that it belongs to."""

    plugin: str
    page: Page


def pages_of(plugins: Sequence[LoadedPlugin], refuse: Refuse = refused) -> Mapping[str, PluginPage]:
    """The pages of the attribute `pages` of each plugin, by path. `refuse` gets the plugins whose pages are wrong."""
    found: dict[str, PluginPage] = {}
    for plugin in plugins:
        try:
            given = list(getattr(plugin.instance, "pages", ()))
        except Exception as error:  # noqa: BLE001 - a property of the plugin
            refuse(plugin, f"its pages cannot be read: {brief(error)}")
            continue
        if len(given) > MAX_PAGES:
            refuse(plugin, f"has more than {MAX_PAGES} pages")
            continue
        for page in given:
            problem = _problem(page)
            if not problem and page.path in found:
                problem = f"has the page {page.path}, and so has {found[page.path].plugin}"
            if problem:
                refuse(plugin, problem)
            else:
                found[page.path] = PluginPage(plugin.name, page)
    return MappingProxyType(found)


def _problem(page: object) -> str:
    """Why a page cannot be used; empty if it can."""
    if not isinstance(page, Page):
        return f"its pages must be of the class Page, not {type(page).__name__}"
    if not isinstance(page.path, str) or _PATH.fullmatch(page.path) is None:
        return f"its page has the path {page.path!r}, which is none; write it like /metrics"
    if page.path.split("/")[1] in _RESERVED:
        return f"its page {page.path} has a path that is reserved for the gateway; choose another"
    return ""
