"""The secrets that stand in a configuration file itself, and not in a variable or another file.

They are found in any valid TOML, so that a file with problems can be shown too: the values are put into unchecked
models, and `secrets.py` says which of them are secrets.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr

from gateway_core.concealing import Secret
from gateway_core.config.auth import AuthConfig
from gateway_core.config.models import ProxyConfig, UpstreamConfig
from gateway_core.config.placeholders.interpolate import has_placeholder, literal_parts
from gateway_core.config.profiles import OverrideConfig, ProfileConfig
from gateway_core.config.secrets import is_plain, secrets_of, secrets_of_upstream
from gateway_core.config.sections import PluginEntry


def literal_secrets(raw: Any) -> Iterator[Secret]:
    """The secrets in the strings of a decoded file. Those of placeholders are not among them."""
    yield from secrets_of(_proxy(_literal(raw)))


def commented_secrets(comment: str) -> Iterator[Secret]:
    """The secrets in a comment that switches keys off, such as `# Authorization = "Bearer …"`."""
    try:
        raw = tomllib.loads(comment.lstrip("# \t"))
    except (ValueError, RecursionError):
        return
    tables = _literal(raw)
    headers, env = (
        {key: value for key, value in tables.items() if isinstance(value, str)},
        {
            key: value
            for table in tables.values()
            if isinstance(table, dict)
            for key, value in table.items()
            if isinstance(value, str)
        },
    )
    yield from secrets_of_upstream(_upstream({**tables, "headers": headers, "env": env}))


def _proxy(raw: Any) -> ProxyConfig:
    proxy = _table(_table(_table(raw).get("mcp")).get("proxy"))
    return ProxyConfig.model_construct(
        state_keys=tuple(map(SecretStr, _texts(proxy.get("state_keys")))),
        upstreams=tuple(map(_upstream, _tables(proxy.get("upstreams")))),
        profiles=tuple(map(_profile, _tables(proxy.get("profiles")))),
        plugins=tuple(
            PluginEntry.model_construct(name=_text(entry.get("name")) or "", settings=entry)
            for entry in _tables(proxy.get("plugins"))
        ),
    )


def _upstream(entry: dict[str, Any]) -> UpstreamConfig:
    auth = _table(entry.get("auth"))
    secrets: dict[str, Any] = {
        key: None if (found := _text(auth.get(key))) is None else SecretStr(found)
        for key in ("client_secret", "private_key")
    }
    return UpstreamConfig.model_construct(
        name=_text(entry.get("name")) or "",
        args=tuple(_texts(entry.get("args"))),
        env=_strings(entry.get("env")),
        headers=_strings(entry.get("headers")),
        url=_text(entry.get("url")),
        proxy=_text(entry.get("proxy")),
        auth=AuthConfig.model_construct(**secrets),
    )


def _profile(entry: dict[str, Any]) -> ProfileConfig:
    overrides = (
        OverrideConfig.model_construct(fixed=_table(one.get("fixed")), defaults=_table(one.get("defaults")))
        for one in _tables(entry.get("overrides"))
    )
    return ProfileConfig.model_construct(name=_text(entry.get("name")) or "", overrides=tuple(overrides))


def _literal(value: Any) -> Any:
    """The value with what the file itself holds of each string. Plain words around a placeholder are dropped."""
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    if not isinstance(value, str) or not has_placeholder(value):
        return value
    around, with_defaults = literal_parts(value)
    if with_defaults != around or not is_plain(around.strip()):
        return with_defaults
    return ""


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _tables(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _strings(value: Any) -> dict[str, str]:
    return {key: one for key, one in _table(value).items() if isinstance(one, str)}
