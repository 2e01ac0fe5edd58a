"""What differs between two configurations, and which of it needs a restart.

A difference names keys. It shows values only of numbers, switches and words that the gateway defines: any other text
may be a secret.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args, get_origin

from pydantic.fields import FieldInfo

from gateway_core.config import Config, OverrideConfig, PluginEntry, ProfileConfig, UpstreamConfig
from gateway_core.config.sections import Section

RESTART: Final[Mapping[str, str]] = {
    "host": "agents are connected to this address",
    "port": "agents are connected to this address",
    "control.host": "commands find the control plane at this address",
    "control.port": "commands find the control plane at this address",
    "state_dir": "the pid file and the names file are open there",
    "tls": "the address of the gateway changes between http and https",
}
"""Key of `[mcp.proxy]` -> why a change of it needs a restart; `tls`: only whether there is that table."""
LIVE: Final = frozenset(
    {
        *("transport", "max_connections", "separator", "replicas", "anonymous", "allowed_hosts", "allowed_origins"),
        *("drain_timeout", "timeout", "max_timeout", "question_timeout", "state_keys", "on_missing"),
        *(
            "control",
            "names",
            "public_url",
            "trusted_proxies",
            "limits",
            "log",
            "tls",
            "upstreams",
            "profiles",
            "plugins",
        ),
    }
)
"""Keys and tables of `[mcp.proxy]` that a reload applies, except for those in `RESTART`."""
ELSEWHERE: Final[Mapping[str, str]] = {
    "enable": "a file without it is not accepted",
    "security": "it sets the plugins security_ratelimit and security_redact",
}
"""Keys whose changes show in another place."""

How: TypeAlias = Literal["added", "removed", "changed", "enabled", "disabled", "moved"]
Table: TypeAlias = Literal["upstream", "profile", "plugin"]
"""The tables of the file that have names."""
Named = TypeVar("Named", UpstreamConfig, ProfileConfig, PluginEntry)
MAX_DETAILS: Final = 20
"""Keys of one table that a change names."""
MAX_NAME: Final = 100
"""Characters of a name by which a table in a list is named; a longer one is named by its place."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    kind: Literal["upstream", "profile", "plugin", "setting"]
    name: str
    """The name of the upstream, profile or plugin, or the dotted key below `mcp.proxy`."""
    how: How
    details: tuple[str, ...] = ()
    """The keys that changed, with their values before and after if those are never secret."""
    restart: str = ""
    """Why it needs a restart; empty if a reload applies it."""

    def as_json(self) -> dict[str, Any]:
        """Its members for the control plane."""
        return asdict(self)

    def __str__(self) -> str:
        subject = self.name if self.kind == "setting" else f"{self.kind} {self.name}"
        details = f" ({'; '.join(self.details)})" if self.details else ""
        return f"{subject}: {self.how}{details}" + (f", which needs a restart: {self.restart}" if self.restart else "")


def compare(before: Config, after: Config) -> tuple[Change, ...]:
    """The differences, in the order of the file: settings, upstreams, profiles, plugins."""
    old, new = before.proxy, after.proxy
    found = [*_settings(old, new)]
    old_upstreams, new_upstreams = (_upstreams_of(config) for config in (before, after))
    found += _named("upstream", old_upstreams, new_upstreams, _upstream_keys)
    old_profiles, new_profiles = ({it.name: it for it in proxy.profiles} for proxy in (old, new))
    found += _named("profile", old_profiles, new_profiles, _profile_keys)
    found += _named("plugin", _by_name(old.plugins), _by_name(new.plugins), _plugin_keys)
    return tuple(found)


def applicable(before: Config, after: Config) -> Config:
    """`after`, with the present values of what needs a restart."""
    old, new = before.proxy, after.proxy
    control = new.control.model_copy(update={"host": old.control.host, "port": old.control.port})
    kept: dict[str, Any] = {"host": old.host, "port": old.port, "state_dir": old.state_dir, "control": control}
    if (old.tls is None) != (new.tls is None):
        kept["tls"] = old.tls
    return Config(after.path, new.model_copy(update=kept), after.disabled)


def _settings(old: Section, new: Section, prefix: str = "") -> Iterator[Change]:
    for key, field in type(old).model_fields.items():
        name = f"{prefix}{key}"
        if name in ELSEWHERE or name in {"upstreams", "profiles", "plugins"} or key in old.not_in_file:
            continue
        mine, its = getattr(old, key), getattr(new, key)
        if mine == its:
            continue
        if isinstance(mine, Section) and isinstance(its, Section):
            yield from _settings(mine, its, f"{name}.")
            continue
        how: How = "added" if mine is None else "removed" if its is None else "changed"
        needs = RESTART.get(name, "") if name != "tls" or mine is None or its is None else ""
        yield Change("setting", name, how, _values(field, mine, its), needs)


def _values(field: FieldInfo, mine: Any, its: Any) -> tuple[str, ...]:
    """`before -> after`, if no value of this key can be a secret."""
    return (f"{_shown(mine)} -> {_shown(its)}",) if _is_open(field.annotation) else ()


def _is_open(annotation: Any) -> bool:
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Literal or annotation in (bool, int, float):
        return True
    return bool(inner) and get_origin(annotation) is not dict and all(_is_open(part) for part in inner)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "default" if value is None else f"{value}"


def _upstreams_of(config: Config) -> dict[str, UpstreamConfig]:
    return {it.name: it for it in (*config.proxy.upstreams, *config.disabled)}


def _by_name(entries: Sequence[PluginEntry]) -> dict[str, PluginEntry]:
    return {entry.name: entry for entry in entries}


def _named(
    kind: Table,
    old: Mapping[str, Named],
    new: Mapping[str, Named],
    keys: Callable[[Named, Named], tuple[str, ...]],
) -> Iterator[Change]:
    yield from (Change(kind, name, "removed") for name in old if name not in new)
    for name, its in new.items():
        mine = old.get(name)
        if mine is None:
            yield Change(kind, name, "added", () if _is_enabled(its) else ("disabled",))
        elif _is_enabled(mine) != _is_enabled(its):
            yield Change(kind, name, "enabled" if _is_enabled(its) else "disabled")
        elif _is_enabled(its) and (changed := keys(mine, its)):
            yield Change(kind, name, "changed", _bounded(changed))
    both = {name for name, its in new.items() if _is_enabled(its) and name in old and _is_enabled(old[name])}
    for name in _moved([name for name in old if name in both], [name for name in new if name in both]):
        yield Change(kind, name, "moved")


def _is_enabled(table: UpstreamConfig | ProfileConfig | PluginEntry) -> bool:
    return isinstance(table, ProfileConfig) or table.enabled


def _bounded(details: tuple[str, ...]) -> tuple[str, ...]:
    more = len(details) - MAX_DETAILS
    return details if more <= 0 else (*details[:MAX_DETAILS], f"{more} more")


def _moved(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The names that were put in another place: as few as explain the new order."""
    place = {name: -at for at, name in enumerate(before)}
    ends: list[str] = []  # for each length: the name that leaves most room for a longer run
    previous: dict[str, str | None] = {}
    for name in reversed(after):  # the longest run of names that kept their order, from its end, in O(n log n)
        length = bisect_left(ends, place[name], key=place.__getitem__)
        previous[name] = ends[length - 1] if length else None
        ends[length : length + 1] = [name]
    stayed = set[str]()
    last = ends[-1] if ends else None
    while last is not None:
        stayed.add(last)
        last = previous[last]
    return [name for name in after if name not in stayed]


def _upstream_keys(old: UpstreamConfig, new: UpstreamConfig) -> tuple[str, ...]:
    found = []
    for key, field in UpstreamConfig.model_fields.items():
        mine, its = getattr(old, key), getattr(new, key)
        if mine != its:
            found.append(" ".join((key, *_values(field, mine, its))))
    if old.misconfigured != new.misconfigured:
        found.append("variables")
    return tuple(found)


def _profile_keys(old: ProfileConfig, new: ProfileConfig) -> tuple[str, ...]:
    return tuple(_differences(old, new, ""))


def _plugin_keys(old: PluginEntry, new: PluginEntry) -> tuple[str, ...]:
    found = tuple(_differences(old.settings, new.settings, ""))
    return found if old.on_error == new.on_error else (*found, f"on_error {old.on_error} -> {new.on_error}")


def _differences(mine: Any, its: Any, path: str) -> Iterator[str]:
    """The dotted paths of the keys that differ. `[2]` is the third of a list; a table there is named if it has a name.

    A list of other values differs as a whole.
    """
    if mine == its:
        return
    if isinstance(mine, Section) and isinstance(its, Section) and type(mine) is type(its):
        for key, field in type(mine).model_fields.items():
            before, after = getattr(mine, key), getattr(its, key)
            shown = _values(field, before, after) if before != after else ()
            for found in _differences(before, after, _joined(path, key)):
                yield " ".join((found, *shown))
    elif isinstance(mine, Mapping) and isinstance(its, Mapping):
        for key in sorted(mine.keys() | its.keys(), key=str):
            yield from _differences(mine.get(key), its.get(key), _joined(path, str(key)))
    elif (old := _tables(mine)) and (new := _tables(its)):
        for name in {**old, **new}:
            place = f"{path}{name}"
            how = "added" if name not in old else "removed" if name not in new else ""
            yield from (f"{place} {how}",) if how else _differences(old[name], new[name], place)
        if list(old) != list(new) and old.keys() == new.keys():
            yield f"the order of {path}"
    else:
        yield path


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _tables(value: Any) -> dict[str, Any]:
    """The tables of a list by name, or by place if they have none; empty for anything else."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, Section | Mapping) for one in value):
        return {}
    names = [_name_of(one) for one in value]
    if all(names) and len(set(names)) == len(names):
        return {f".{name}": one for name, one in zip(names, value, strict=True)}
    return {f"[{at}]": one for at, one in enumerate(value)}


def _name_of(table: Section | Mapping[str, Any]) -> str:
    """The name of a table in a list; empty if it has none that can be shown."""
    name = table.tool if isinstance(table, OverrideConfig) else table.get("name") if isinstance(table, Mapping) else ""
    return name if isinstance(name, str) and len(name) <= MAX_NAME and name.isprintable() else ""
