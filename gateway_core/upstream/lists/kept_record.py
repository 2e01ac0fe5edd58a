"""The content of a kept-lists file: the last known lists of one upstream, and what its server said of itself.

Lists that belong to single principals are left out. The file carries a checksum, the version of the gateway, and a
digest of the settings that identify the server, with a salt: settings can hold secrets, which no digest may betray.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core.api import Era, Kind
from gateway_core.config import UpstreamConfig
from gateway_core.files import Unusable, with_checksum, without_checksum
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, FetchedLists, Item
from gateway_core.upstream.lists.gathering import announced

VERSION: Final = 1
"""Version of the file's contents; incremented when a field changes."""
NOT_IDENTIFYING: Final = frozenset(
    {
        *("name", "enabled", "priority", "group", "isolation", "retry", "trust_annotations", "max_in_flight"),
        *("health_check_interval", "start", "start_timeout", "idle_stop", "timeout", "on_missing"),
    }
)
"""Keys of an upstream that say how it is used. All others identify the server: after a change its lists are dropped."""
_SALT: Final = 16


class _Entry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An `Item`."""

    name: str
    raw: Raw
    identity: str
    headers: list[tuple[tuple[str, ...], str]] = []
    legacy: dict[str, Raw] = {}
    hidden: list[str] = []
    """The members that legacy agents do not get."""


class _List(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    entries: list[_Entry]
    public: bool | None = None
    """The cache scope; None without a cache hint."""
    notes: list[str] = []


class _Server(msgspec.Struct, forbid_unknown_fields=True):
    """A `ServerInfo`."""

    era: Era
    protocol_version: str
    capabilities: dict[str, Any]
    name: str
    version: str
    instructions: str | None
    public: bool


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    gateway: str
    """The version of the gateway: another one may check definitions by other rules."""
    upstream: str
    salt: str
    settings: str
    """Digest of the settings that identify the server."""
    server: _Server
    lists: dict[Kind, _List]


class _Head(msgspec.Struct):
    """The fields that all versions have."""

    version: int
    gateway: str


_DECODER: Final = msgspec.json.Decoder(_Record)
_HEAD: Final = msgspec.json.Decoder(_Head)


class Known(msgspec.Struct, frozen=True):
    """What a file holds."""

    info: ServerInfo
    lists: FetchedLists


def kept_part(config: UpstreamConfig, info: ServerInfo | None, lists: FetchedLists) -> Known | None:
    """What is kept of these lists, and what a file gives back; None if there is nothing to keep.

    `info`: None if the server was not reached. Agents must not cache kept lists: the server may have others now.
    """
    personal = lists.private if config.has_identities else frozenset()
    items = {kind: found for kind, found in lists.items.items() if kind not in personal}
    if info is None or not items:
        return None
    hints = {kind: Hint(0, hint.public) for kind, hint in lists.hints.items() if kind in items}
    notes = {kind: found for kind, found in lists.notes.items() if kind in items and found}
    kept = FetchedLists(items, hints, notes, last_known=True)
    for kind in LIST_METHODS:
        if kind in announced(info) and kind not in items:
            why = f"{LIST_METHODS[kind]} of upstream {config.name} is not known until the upstream is reached"
            kept = kept.with_failure(kind, why)
    return Known(replace(info, hint=Hint(0, info.hint.public)), kept)


def encoded(config: UpstreamConfig, known: Known) -> bytes:
    """The file's content for a `kept_part`."""
    info, salt = known.info, secrets.token_hex(_SALT)
    server = _Server(
        info.era,
        info.protocol_version,
        dict(info.capabilities),
        info.name,
        info.version,
        info.instructions,
        info.hint.public,
    )
    lists = {kind: _list(kind, known.lists) for kind in known.lists.items}
    record = _Record(VERSION, _gateway(), config.name, salt, _digest(config, salt), server, lists)
    body = jsonrpc.encode(record)
    return with_checksum(body)


def decoded(data: bytes, config: UpstreamConfig, clean: Callable[[bytes], bytes]) -> Known | None:
    """What a file holds for this upstream; None if it is of a server with other settings.

    `clean` hides secrets that the gateway did not hold when the file was written. Raises `Unusable`.
    """
    body = without_checksum(data)
    try:
        head = _HEAD.decode(body)
        if (head.version, head.gateway) != (VERSION, _gateway()):
            return None
        record = _DECODER.decode(clean(body))
    except (msgspec.DecodeError, RecursionError):
        raise Unusable("it is damaged") from None
    if not hmac.compare_digest(record.settings, _digest(config, record.salt)):
        return None
    return kept_part(config, _info(record.server), _lists(record))


def identifying(config: UpstreamConfig) -> str:
    """The settings that identify the server, as JSON. It can hold secrets."""
    return json.dumps(config.model_dump(mode="json", exclude=set(NOT_IDENTIFYING)), sort_keys=True)


@cache
def _gateway() -> str:
    """The version of the gateway."""
    return version("gateway-core")


def _digest(config: UpstreamConfig, salt: str) -> str:
    return hmac.digest(salt.encode(), identifying(config).encode(), "sha256").hex()


def _list(kind: Kind, lists: FetchedLists) -> _List:
    notes = list(lists.notes.get(kind, ()))
    hint = lists.hints.get(kind)
    return _List([_entry(item) for item in lists.of(kind)], None if hint is None else hint.public, notes)


def _entry(item: Item) -> _Entry:
    legacy = {name: Raw(value) for name, value in item.legacy.items() if value is not None}
    hidden = [name for name, value in item.legacy.items() if value is None]
    return _Entry(item.name, Raw(item.raw), item.identity, list(item.header_map.items()), legacy, hidden)


def _info(server: _Server) -> ServerInfo:
    hint = Hint(0, server.public)
    return ServerInfo(
        server.era,
        server.protocol_version,
        server.capabilities,
        server.name,
        server.version,
        server.instructions,
        hint,
    )


def _lists(record: _Record) -> FetchedLists:
    return FetchedLists(
        {kind: tuple(_item(kind, entry) for entry in found.entries) for kind, found in record.lists.items()},
        {kind: Hint(0, found.public) for kind, found in record.lists.items() if found.public is not None},
        {kind: tuple(found.notes) for kind, found in record.lists.items()},
    )


def _item(kind: Kind, entry: _Entry) -> Item:
    legacy: dict[str, bytes | None] = {name: bytes(value) for name, value in entry.legacy.items()}
    headers: Mapping[tuple[str, ...], str] = dict(entry.headers)
    return Item(kind, entry.name, bytes(entry.raw), entry.identity, headers, legacy | dict.fromkeys(entry.hidden))
