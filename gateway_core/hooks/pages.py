"""What the enabled plugins show on the control plane: pages, and what their limits leave an agent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

import msgspec

from gateway_core.api import Allowance, Page, Principal
from gateway_core.hooks.failures import Misuse, brief
from gateway_core.hooks.implementations import LoadedPlugin, Refuse, refused

MAX_PAGES: Final = 20
"""Maximum pages of one plugin."""
MAX_ALLOWANCES: Final = 200
MAX_WHAT: Final = 300
"""Bounds of the allowances of a plugin: their number, and the characters of each of their texts."""
MAX_COUNTED: Final = 2000
"""Further allowances of a plugin that are counted."""
MAX_NUMBER: Final = 2**63 - 1
"""Maximum number in an allowance: the greatest that a configuration file can have."""
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_RESERVED: Final = frozenset({"admin", "api", "healthz", "readyz", "ui"})
"""First parts of paths that the gateway keeps for itself."""


class PluginPage(msgspec.Struct, frozen=True):
    """A page, and the plugin that it belongs to."""

    plugin: str
    page: Page


class PluginAllowance(msgspec.Struct, frozen=True):
    """What a limit leaves an agent, and the plugin that it belongs to."""

    plugin: str
    allowance: Allowance


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


def allowances_of(plugins: Sequence[LoadedPlugin], principal: Principal) -> tuple[list[PluginAllowance], list[str]]:
    """What the optional method `allowances` of each plugin says about an agent, and a sentence on what is missing."""
    found: list[PluginAllowance] = []
    problems: list[str] = []
    for plugin in plugins:
        method: Any = getattr(plugin.instance, "allowances", None)
        if not callable(method):
            continue
        try:
            rest = iter(method(principal))
            given = [_checked(one) for one in islice(rest, MAX_ALLOWANCES)]
            more = sum(1 for _ in islice(rest, MAX_COUNTED))
        except Exception as error:  # noqa: BLE001 - a plugin's bug must not hide the limits of others
            why = error if isinstance(error, Misuse) else type(error).__name__
            problems.append(f"the limits of the plugin {plugin.name} cannot be read: {why}")
            continue
        found += [PluginAllowance(plugin.name, one) for one in given]
        if more:
            number = f"{MAX_COUNTED} or more" if more == MAX_COUNTED else str(more)
            problems.append(f"the plugin {plugin.name} has more limits for this agent that are not shown: {number}")
    return found, problems


def _checked(given: object) -> Allowance:
    """An allowance with texts of bounded length. Raises `Misuse` if it cannot be shown."""
    if not isinstance(given, Allowance):
        raise Misuse(f"one of them is a {type(given).__name__}")
    what, per = _text("what", given.what), _text("per", given.per)
    limit, remaining = _whole("limit", given.limit), _whole("remaining", given.remaining)
    if given.of not in ("agent", "address"):
        raise Misuse("the `of` of one of them is neither `agent` nor `address`")
    return Allowance(what, limit, per, remaining, given.of, _bounded("wait", given.wait))


def _text(name: str, given: object) -> str:
    if not isinstance(given, str):
        raise Misuse(f"the `{name}` of one of them is a {type(given).__name__}, not a text")
    return given[:MAX_WHAT].encode(errors="replace").decode()  # a lone surrogate cannot be sent


def _whole(name: str, given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise Misuse(f"the `{name}` of one of them is a {type(given).__name__}, not a whole number")
    return int(_bounded(name, given))


def _bounded(name: str, given: object) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise Misuse(f"the `{name}` of one of them is a {type(given).__name__}, not a number")
    if not 0 <= given <= MAX_NUMBER:  # NaN is not, either
        raise Misuse(f"the `{name}` of one of them is not from 0 to 2**63 - 1")
    return given


def _problem(page: object) -> str:
    """Why a page cannot be used; empty if it can."""
    if not isinstance(page, Page):
        return f"its pages must be of the class Page, not {type(page).__name__}"
    if not isinstance(page.path, str) or _PATH.fullmatch(page.path) is None:
        return f"its page has the path {page.path!r}, which is none; write it like /metrics"
    if page.path.split("/")[1] in _RESERVED:
        return f"its page {page.path} has a path that is reserved for the gateway; choose another"
    return ""
