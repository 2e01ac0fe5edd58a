"""The catalog itself: rebuilds, looks up, answers lists, tells who wants to know that something changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from loguru import logger

from gateway_core.catalog.lists import Lists
from gateway_core.catalog.publish import Published, Resolver, publish
from gateway_core.catalog.snapshot import Snapshot, Target, TemplateMatch, template_pattern
from gateway_core.catalog.tasks import Tasks
from gateway_core.config import ProxyConfig
from gateway_core.protocol import CHANGING, EXTENSIONS, IMPLEMENTATION, TASKS_EXTENSION
from gateway_core.seal import Seal
from gateway_core.types import Era, Kind, Tool
from gateway_core.upstream.inventory import CAPABILITY, LIST_METHODS
from gateway_core.upstream.subscription import announces_updates
from gateway_core.upstream.upstream import Upstream

Listener = Callable[[frozenset[str]], None]
_MODERN: Final = ("modern", "modern")
_ABSENT: Final = object()


class Catalog:
    """Everything the upstreams offer under the names agents see."""

    def __init__(self, config: ProxyConfig, upstreams: Sequence[Upstream], resolve: Resolver, seal: Seal) -> None:
        """`seal`: for what agents carry for the gateway."""
        self._config = config
        self._upstreams = tuple(upstreams)
        self._by_name = {upstream.name: upstream for upstream in upstreams}
        self._resolve = resolve
        self._listeners: list[Listener] = []
        self._lists = Lists(config.limits.page_size)
        self.tasks: Final = Tasks(seal, upstreams)
        self.snapshot = Snapshot()
        self.rebuild()

    def rebuild(self) -> None:
        """Make a new snapshot from the upstreams' last known lists, and tell the listeners what differs."""
        before, after = self.snapshot, self._build()
        self.snapshot = after
        changed = frozenset(
            CAPABILITY[kind]
            for kind, method in LIST_METHODS.items()
            if before.pages.get((method, "modern")) != after.pages.get((method, "modern"))
        )
        for warning in after.warnings:
            if warning not in before.warnings:
                logger.warning("{}", warning)
        if changed and before.pages:
            for listener in tuple(self._listeners):
                listener(changed)

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Have `callback` told which of `tools`, `resources`, `prompts` changed; returns how to stop that."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    # -- look-ups -----------------------------------------------------------------------------------------------

    def tool(self, name: str) -> Target | None:
        """Who serves a tool: by published name, or `upstream:tool`, which reaches it listed or not."""
        entry = self.snapshot.tools.get(name)
        if entry is not None:
            return Target(entry.original, entry.upstreams, entry.tool, entry.mirrored)
        upstream, original = self._explicit(name)
        if upstream is None or not original:
            return None
        allowed = upstream.config.tools
        if allowed is not None and original not in allowed:
            return None
        return self._tool_of(upstream, original)

    def _tool_of(self, upstream: Upstream, original: str) -> Target:
        """An explicitly named tool. Plugins see its published entry, so that no rule is walked around."""
        entry = self.snapshot.tools_by_owner.get((upstream.name, original))
        if entry is not None:
            return Target(original, (upstream,), entry.tool, entry.mirrored)
        item = upstream.inventory.find("tool", original) if upstream.inventory is not None else None
        if item is None:
            return Target(original, (upstream,))
        tool = Tool(f"{upstream.name}:{original}", original, item.definition, (upstream.name,))
        return Target(original, (upstream,), tool, item.header_map)

    def prompt(self, name: str) -> Target | None:
        """Who serves a prompt: by published name, or `upstream:prompt`."""
        entry = self.snapshot.prompts.get(name)
        if entry is not None:
            return Target(entry.original, entry.upstreams)
        upstream, prompt = self._explicit(name)
        return Target(prompt, (upstream,)) if upstream is not None and prompt else None

    def resource(self, uri: str) -> Target | None:
        """Who serves a resource: by exact URI, then by template, then the only upstream that has any resources."""
        entry = self.snapshot.resources.get(uri)
        if entry is not None:
            return Target(entry.original, entry.upstreams)
        for match in self.snapshot.patterns:
            original = match.original_of(uri)
            if original is not None:
                return Target(original, match.entry.upstreams)
        owners = [upstream for upstream in self._upstreams if "resources" in upstream.capabilities]
        return Target(uri, (owners[0],)) if len(owners) == 1 else None

    def published_uri(self, upstream: str, original: str) -> str | None:
        """By which URI agents read what an upstream calls `original`; None when they cannot."""
        published = self.snapshot.resources_by_owner.get((upstream, original))
        if published is not None:
            return published
        for match in self.snapshot.patterns:
            if any(owner.name == upstream for owner in match.entry.upstreams):
                published = match.published(original)
                if published is not None:
                    return published
        found = self.resource(original)
        is_its_own = found is not None and any(owner.name == upstream for owner in found.upstreams)
        return original if is_its_own else None

    def template(self, uri_template: str) -> Target | None:
        """Who completes the variables of a template (or of a resource's URI, which the protocol allows too)."""
        entry = self.snapshot.templates.get(uri_template)
        return Target(entry.original, entry.upstreams) if entry is not None else self.resource(uri_template)

    def _explicit(self, name: str) -> tuple[Upstream | None, str]:
        prefix, colon, rest = name.partition(":")
        return (self._by_name.get(prefix), rest) if colon else (None, "")

    # -- lists --------------------------------------------------------------------------------------------------

    def page(self, method: str, era: Era, cursor: str | None) -> bytes:
        """The result object of a list request, from memory; upstreams whose lists have expired are asked meanwhile.

        Raises `RpcError(INVALID_PARAMS)` for a cursor that is not ours.
        """
        pages = self.snapshot.pages[method, era]
        if cursor is None:
            for upstream in self._upstreams:
                upstream.refresh_if_expired()
            return pages[0]
        # A list that got shorter meanwhile ends with its last page: walks need not be consistent (utilities/caching).
        return pages[min(self._lists.read_cursor(method, cursor), len(pages) - 1)]

    def identity(self, era: Era) -> dict[str, Any]:
        """`capabilities`, `serverInfo` and `instructions` for `initialize` (legacy) and `server/discover` (modern)."""
        capabilities: dict[str, Any] = {capability: {"listChanged": True} for capability in CHANGING}
        if any(announces_updates(upstream.capabilities) for upstream in self._upstreams):
            capabilities["resources"]["subscribe"] = True
        if any("logging" in upstream.capabilities for upstream in self._upstreams):
            capabilities["logging"] = {}
        if any("completions" in upstream.capabilities for upstream in self._upstreams):
            capabilities["completions"] = {}
        extensions = self._extensions(era)
        if extensions:
            capabilities["extensions"] = extensions
        identity: dict[str, Any] = {"capabilities": capabilities, "serverInfo": dict(IMPLEMENTATION)}
        instructions = [
            (upstream.name, upstream.instructions) for upstream in self._upstreams if upstream.instructions is not None
        ]
        if len(self._upstreams) == 1 and instructions:
            identity["instructions"] = instructions[0][1]
        elif instructions:
            identity["instructions"] = "\n\n".join(f"# {name}\n{text}" for name, text in instructions)
        return identity

    def _extensions(self, era: Era) -> dict[str, Any]:
        """The extensions that any upstream offers and that work through the gateway.

        Of their settings only those that all who offer it agree on: an agent must not expect of one upstream what only
        another has. Tasks are of modern agents and modern upstreams alone (SEP-2663, Backward Compatibility).
        """
        merged: dict[str, Any] = {}
        for upstream in self._upstreams:
            offered = upstream.capabilities.get("extensions")
            if not isinstance(offered, dict):
                continue
            for name in sorted(EXTENSIONS & offered.keys()):
                settings = offered[name]
                if not isinstance(settings, dict) or (name == TASKS_EXTENSION and (era, upstream.facts.era) != _MODERN):
                    continue
                known = merged.get(name, settings)
                merged[name] = {key: value for key, value in settings.items() if known.get(key, _ABSENT) == value}
        return merged

    # -- building -----------------------------------------------------------------------------------------------

    def _build(self) -> Snapshot:
        published: dict[Kind, Published] = {
            kind: publish(
                kind,
                self._upstreams,
                self._resolve,
                separator=self._config.separator,
                declared_only=self._config.replicas == "declared",
            )
            for kind in LIST_METHODS
        }
        known = [upstream.inventory for upstream in self._upstreams if upstream.inventory is not None]
        pages = self._lists.pages({kind: outcome.entries for kind, outcome in published.items()}, known)
        templates = published["template"].entries
        patterns = ((entry, template_pattern(entry.original)) for entry in templates.values())
        return Snapshot(
            tools=published["tool"].entries,
            prompts=published["prompt"].entries,
            resources=published["resource"].entries,
            templates=templates,
            patterns=tuple(TemplateMatch(entry, pattern) for entry, pattern in patterns if pattern is not None),
            tools_by_owner={
                (upstream.name, entry.original): entry
                for entry in published["tool"].entries.values()
                for upstream in entry.upstreams
            },
            resources_by_owner={
                (upstream.name, entry.original): entry.name
                for entry in published["resource"].entries.values()
                for upstream in entry.upstreams
            },
            pages=pages,
            decisions=tuple(decision for outcome in published.values() for decision in outcome.decisions),
            warnings=tuple(warning for outcome in published.values() for warning in outcome.warnings),
        )
