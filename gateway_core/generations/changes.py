"""What differs between two configurations, and which of it needs a restart.

A difference names keys. It shows values only of numbers, switches and words that the gateway defines: any other text
may be a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args, get_origin

from pydantic.fields import FieldInfo

from gateway_core.config import Config, PluginEntry, UpstreamConfig
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
Named = TypeVar("Named", UpstreamConfig, PluginEntry)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    kind: Literal["upstream", "plugin", "setting"]
    name: str
    """The name of the upstream or plugin, or the dotted key below `mcp.proxy`."""
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
    """The differences, in the order of the file: settings, upstreams, plugins."""
    old, new = before.proxy, after.proxy
    found = [*_settings(old, new)]
    old_upstreams, new_upstreams = (_upstreams_of(config) for config in (before, after))
    found += _named("upstream", old_upstreams, new_upstreams, _upstream_keys)
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
        if name in ELSEWHERE or name in {"upstreams", "plugins"} or key in old.not_in_file:
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
    kind: Literal["upstream", "plugin"],
    old: Mapping[str, Named],
    new: Mapping[str, Named],
    keys: Callable[[Named, Named], tuple[str, ...]],
) -> Iterator[Change]:
    yield from (Change(kind, name, "removed") for name in old if name not in new)
    for name, its in new.items():
        mine = old.get(name)
        if mine is None:
            yield Change(kind, name, "added", () if its.enabled else ("disabled",))
        elif mine.enabled != its.enabled:
            yield Change(kind, name, "enabled" if its.enabled else "disabled")
        elif its.enabled and (changed := keys(mine, its)):
            yield Change(kind, name, "changed", changed)
    both = {name for name, its in new.items() if its.enabled and name in old and old[name].enabled}
    for name in _moved([name for name in old if name in both], [name for name in new if name in both]):
        yield Change(kind, name, "moved")


def _moved(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The names that were put in another place: as few as explain the new order."""
    place = {name: at for at, name in enumerate(before)}
    runs: list[tuple[str, ...]] = [()]
    for name in after:  # the longest run of names that kept their order
        earlier = [run for run in runs if not run or place[run[-1]] < place[name]]
        runs.append((*_longest(earlier), name))
    stayed = frozenset(_longest(runs))
    return [name for name in after if name not in stayed]


def _longest(runs: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return max(runs, key=len)


def _upstream_keys(old: UpstreamConfig, new: UpstreamConfig) -> tuple[str, ...]:
    found = []
    for key, field in UpstreamConfig.model_fields.items():
        mine, its = getattr(old, key), getattr(new, key)
        if mine != its:
            found.append(" ".join((key, *_values(field, mine, its))))
    if old.misconfigured != new.misconfigured:
        found.append("variables")
    return tuple(found)


def _plugin_keys(old: PluginEntry, new: PluginEntry) -> tuple[str, ...]:
    keys = sorted(old.settings.keys() | new.settings.keys())
    found = [key for key in keys if old.settings.get(key) != new.settings.get(key)]
    return tuple(found) if old.on_error == new.on_error else (*found, f"on_error {old.on_error} -> {new.on_error}")
