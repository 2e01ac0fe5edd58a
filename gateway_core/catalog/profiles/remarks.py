"""What of a profile has no effect, or another one than its keys say; for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from gateway_core.api import Kind
from gateway_core.api.globs import Globs
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.naming import shortened
from gateway_core.catalog.profiles.profile import Profile, names_of
from gateway_core.catalog.snapshot import Snapshot
from gateway_core.config import OverrideConfig

_KEYS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "tools": ("tool",),
    "prompts": ("prompt",),
    "resources": ("resource", "template"),
}


class Remark(NamedTuple):
    """A sentence about one key of a profile."""

    path: tuple[str | int, ...]
    """The key, inside the table of the profile."""
    text: str


def remarks(profile: Profile, base: Snapshot, view: Snapshot) -> Iterator[Remark]:
    """The remarks on a profile. `base`: the gateway's snapshot. `view`: the profile's, made from it."""
    for key, kinds in _KEYS.items():
        texts = [text for kind in kinds for entry in base.held(kind).values() for text in names_of(entry)]
        for number, glob in enumerate(getattr(profile.config, key)):
            matches = Globs([glob.removeprefix("!")]).matches
            if glob.removeprefix("!") != "*" and not any(map(matches, texts)):
                yield Remark((key, number), f"profile {profile.name}: {key}: {shortened(glob)!r} matches nothing")
    tools = {text: entry for entry in base.held("tool").values() for text in names_of(entry)}
    for number, override in enumerate(profile.config.overrides):
        entry = tools.get(override.tool)
        said = f"profile {profile.name}: the override of {shortened(override.tool)!r}"
        for key, text in _of_override(profile, override, entry, view):
            yield Remark(("overrides", number, key), f"{said}{text}")


def _of_override(
    profile: Profile, override: OverrideConfig, entry: Entry | None, view: Snapshot
) -> Iterator[tuple[str, str]]:
    if entry is None:
        yield "tool", " has no effect: there is no such tool"
        return
    if not profile.shows(entry):
        yield "tool", " has no effect: the profile does not show this tool"
        return
    seen = view.tools_by_owner.get((entry.upstreams[0].name, entry.original))
    if override.name is not None and seen is not None and seen.name != override.name:
        yield "name", f": another tool has the name {override.name!r}, so it is published as {shortened(seen.name)!r}"
    schema = None if entry.tool is None else entry.tool.definition.get("inputSchema")
    if isinstance(schema, dict):
        known = schema.get("properties")
        names = known.keys() if isinstance(known, dict) else ()
        for key in ("fixed", "defaults"):
            for name in getattr(override, key):
                if name not in names:
                    yield key, f": the schema of the tool has no argument {name!r}, which is sent nevertheless"
