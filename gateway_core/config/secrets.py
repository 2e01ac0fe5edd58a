"""Which values of a configuration are secrets.

A value is a secret if its name says so (`API_TOKEN`, `--password`, `Authorization`), or if nothing says that it is
none: neither its name (`PROJECT_ID`, `--region`) nor its form, such as a path, a word, a date or a number. Of a URL,
only credentials and query are secrets; of JSON, the members that are.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway_core.concealing import MARKER, Secret
from gateway_core.config.models import ProxyConfig, UpstreamConfig

STEMS: Final = "secret|token|passw|passphrase|passcode|credential|cookie|bearer|signature|jwt"
"""Parts of a name that say that the value is a secret, wherever they stand in it."""
WORDS: Final = "pass|pwd|pin|pat|dsn|sig"
"""Words of a name that say so only as whole words."""
_SECRET_NAME: Final = re.compile(
    rf"{STEMS}|pwd|key|auth|session|(?:^|[_.-])(?:{WORDS})$|(?:^|-)headers?$", re.IGNORECASE
)
_HARMLESS_NAME: Final = re.compile(
    r"(?:^|[_.-])(?:id|ids|name|user|username|email|mail|host|hostname|region|zone|path|dir|folder|file|model|version"
    r"|bucket|project|tenant|account|org|organization|team|workspace|channel|database|db|schema|table|branch|level|mode"
    r"|port|timezone|tz|lang|language|locale|format|type|accept|agent|encoding|environment)$",
    re.IGNORECASE,
)
_ABOUT_SECRET: Final = re.compile(r"(?:^|[_.-])(?:dir|file|folder|format|mode|name|path|type)$", re.IGNORECASE)
"""The end of a name that does not hold the secret that it names: `SSH_KEY_PATH`."""
_OPTION: Final = re.compile(r"--?[A-Za-z][\w.-]*")
_NAMED: Final = re.compile(r"([\w.-]+)\s*[=:]\s*(?!//|=)(.+)", re.DOTALL)
_PATH: Final = re.compile(r"[~.]{0,2}/.*", re.DOTALL)
_NUMBERS: Final = re.compile(r"[\d.:]{1,15}|\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?")
_GAPS: Final = re.compile(r"[-_./:@, =*^~\\]+")
_WORD: Final = re.compile(r"[A-Z]?[a-z]{1,31}|[A-Za-z]{1,20}|\d{1,8}")
_SHORT_PART: Final = 4
"""Characters of a part such as `4o`, `v2` or `us1`; a plain value may have one."""
_MAX_DEPTH: Final = 8
_HEADERS: Final = re.compile(r"(?:^|[_.-])headers$", re.IGNORECASE)
"""The name of a table of headers, whose names can say less than the headers of the usual credentials."""
_ABOUT_CONTENT: Final = re.compile(r"accept(?:-.*)?|content-.*|user-agent", re.IGNORECASE)
_FIELD_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def secrets_of(proxy: ProxyConfig) -> Iterator[Secret]:
    """All secrets of a configuration."""
    for state_key in proxy.state_keys:
        yield Secret("state_keys", state_key.get_secret_value())
    for upstream in proxy.upstreams:
        yield from secrets_of_upstream(upstream)
    for profile in proxy.profiles:
        for override in profile.overrides:
            label = f"an argument in profile {profile.name}"
            for name, value in _texts({**override.defaults, **override.fixed}):
                yield from _labelled(label, _of_value(name, value))
    for plugin in proxy.plugins:
        for key, value in _texts(plugin.settings):
            if _SECRET_NAME.search(key) and not _ABOUT_SECRET.search(key) and not _names_header(key, value):
                yield Secret(f"a setting of plugin {plugin.name}", value)
        for key, value in _headers_in(plugin.settings):
            if _is_secret_header(key, value):
                yield Secret(f"a header of plugin {plugin.name}", value)


def without_secrets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a plugin, with each value whose name says that it is a secret replaced by `MARKER`."""
    return {key: _without_secrets(key, value) for key, value in settings.items()}


def _without_secrets(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        shown = without_secrets(value)
        return {name: _without_header(name, one) for name, one in shown.items()} if _HEADERS.search(key) else shown
    if isinstance(value, str) and _SECRET_NAME.search(key) and not _ABOUT_SECRET.search(key):
        return value if not value or _names_header(key, value) else MARKER
    return [_without_secrets(key, one) for one in value] if isinstance(value, list | tuple) else value


def _without_header(name: str, value: Any) -> Any:
    return MARKER if isinstance(value, str) and _is_secret_header(name, value) else value


def _is_secret_header(name: str, value: str) -> bool:
    """Whether a header of a plugin is a secret: collectors call the header of their key as they like."""
    return _is_secret(name, value) or not (_ABOUT_CONTENT.fullmatch(name) or is_plain(value))


def _headers_in(value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The names and values in all tables of headers, such as `headers = { X-Team = "…" }`."""
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        for key, member in value.items():
            if isinstance(member, Mapping) and _HEADERS.search(str(key)):
                yield from ((str(name), text) for name, text in member.items() if isinstance(text, str))
            else:
                yield from _headers_in(member, depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, list | tuple):
        for member in value:
            yield from _headers_in(member, depth + 1)


def _names_header(key: str, value: str) -> bool:
    """Whether a setting names a header, as in `header = "X-Api-Key"`, and holds no value of one."""
    return key in {"header", "headers"} and _FIELD_NAME.fullmatch(value) is not None


def private_values_of(config: UpstreamConfig) -> Iterator[str]:
    """What only operators may see of an upstream's configuration: its secrets, and all of `env`, headers and query."""
    yield from (secret.value for secret in secrets_of_upstream(config))
    yield from config.env.values()
    for value in config.headers.values():
        yield value
        yield value.partition(" ")[2]
    for pair in urlsplit(config.url or "").query.split("&"):
        value = pair.partition("=")[2]
        yield value
        yield unquote(value)


def secrets_of_upstream(config: UpstreamConfig) -> Iterator[Secret]:
    """The secrets in an upstream's `env`, `args`, `headers`, `url`, `proxy` and `auth`."""
    label = f"upstream {config.name}"
    for name, value in config.env.items():
        yield from _labelled(f"env.{name} of {label}", _of_value(name, value))
    yield from _labelled(f"args of {label}", _of_arguments(config.args))
    for name, value in config.headers.items():
        yield from _labelled(f"headers.{name} of {label}", _of_header(name, value))
    if config.url is not None:
        yield from _labelled(f"url of {label}", _of_url(config.url))
    if config.proxy is not None:
        yield from _labelled(f"proxy of {label}", _of_url(config.proxy))
    if config.auth is not None:
        for key in ("client_secret", "private_key"):
            secret = getattr(config.auth, key)
            if secret is not None:
                yield Secret(f"auth.{key} of {label}", secret.get_secret_value())


def _labelled(label: str, values: Iterator[str]) -> Iterator[Secret]:
    return (Secret(label, value) for value in values if value)


def _of_header(name: str, value: str) -> Iterator[str]:
    yield from _of_value(name, value)
    scheme, _, credentials = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            yield base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return


def _of_arguments(arguments: Sequence[str]) -> Iterator[str]:
    """The secrets among a command's arguments: all but options, paths, plain words and numbers."""
    option = ""
    for argument in arguments:
        if _OPTION.fullmatch(argument):
            option = argument
            continue
        named = _NAMED.fullmatch(argument)
        if "://" in argument.partition("=")[0]:
            yield from _of_url(argument)
        elif named is not None and not argument.startswith(("/", ".", "{")):
            yield from _of_value(named[1], named[2])
        else:
            yield from _of_value(option, argument)
        option = ""


def _of_value(name: str, value: str, depth: int = 0) -> Iterator[str]:
    if "://" in value and " " not in value:
        yield from _of_url(value)
        return
    if value.lstrip()[:1] in {"{", "["} and depth < _MAX_DEPTH:
        try:
            members = list(_texts(json.loads(value)))
        except (ValueError, RecursionError):
            pass
        else:
            for key, text in members:
                yield from _of_value(key or name, text, depth + 1)
            return
    if not _is_secret(name, value):
        return
    yield value
    yield value.partition(" ")[2]  # servers may quote a token without its scheme
    named = _NAMED.fullmatch(value)
    if named is not None:
        yield from _of_value(named[1], named[2], depth + 1)


def _is_secret(name: str, value: str) -> bool:
    if _SECRET_NAME.search(name):
        return not _ABOUT_SECRET.search(name)
    return not (_HARMLESS_NAME.search(name) or is_plain(value))


def _of_url(url: str) -> Iterator[str]:
    """The password (or the user, if there is none) and the query values of a URL, both encoded and decoded."""
    try:
        parts = urlsplit(url)
    except ValueError:
        yield url
        return
    userinfo = parts.netloc.rpartition("@")[0]
    user, colon, password = userinfo.partition(":")
    raw = password if colon else user
    yield raw
    yield unquote(raw)
    for name, value in parse_qsl(parts.query):
        yield from _of_value(name, value)
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        yield from _of_value(name, value)


def is_plain(value: str) -> bool:
    """Whether a value looks like none of the usual secrets: a path, words, a date, a version, a number."""
    if _PATH.fullmatch(value) or _NUMBERS.fullmatch(value):
        return True
    odd = [part for part in _GAPS.split(value) if part and not _WORD.fullmatch(part)]
    return not odd or (len(odd) == 1 and len(odd[0]) <= _SHORT_PART and odd[0].isalnum())


def _texts(value: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """The strings in decoded JSON or TOML, each with the nearest key above it."""
    if isinstance(value, str):
        yield key, value
    elif depth < _MAX_DEPTH and isinstance(value, Mapping):
        for name, member in value.items():
            yield from _texts(member, str(name), depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, key, depth + 1)
