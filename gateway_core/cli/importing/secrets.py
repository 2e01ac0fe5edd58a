"""Recognises secrets in a client's settings: whole values, and parts of URLs, JSON, command lines and other texts.

What looks like a secret counts as one, by its name (`API_KEY`) or by its shape (`ghp_…`). If a harmless value counts as
a secret, the user sets one variable more; if a secret does not, it stands in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway_core.config.secrets import STEMS, WORDS, is_plain

_SECRET_NAME: Final = re.compile(
    rf"{STEMS}|api[_-]?key|private[_-]?key|authorization|(^|[_-])({WORDS}|key|auth)([_-]|$)",
    re.IGNORECASE,
)
_HARMLESS_NAME: Final = re.compile(
    r"(^|[_-])(file|path|dir|folder|name|header|id|type|url|uri|host)$"
    r"|(^|[_-])(max|min|num|total|input|output|prompt|completion|context)([_-]\w+)?[_-]?tokens$",
    re.IGNORECASE,
)
_SHAPES: Final = re.compile(
    r"\b(gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|xapp-|sk[-_]|pk_live_|rk_live_|whsec_|hf_|npm_|pypi-|ntn_|lin_api_|"
    r"figd_|sbp_|shpat_|dop_v1_|patA?[A-Za-z0-9]{12,}\.|AKIA|ASIA|AIza|ya29\.|SG\.|tvly-|fc-|BSA)[A-Za-z0-9_\-.]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|://[^/@\s:]*:[^/@\s]+@"
    r"|\b[0-9a-fA-F]{32,}\b"
    r"|\b(?=[A-Za-z0-9+_-]*[0-9])(?=[A-Za-z0-9+_-]*[a-z])(?=[A-Za-z0-9+_-]*[A-Z])[A-Za-z0-9+_-]{36,}={0,2}"
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NO_SECRETS: Final = frozenset({"bearer", "basic", "token", "true", "false", "null", "none"})
"""Values that are no secret whatever their name."""
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_REFERENCE: Final = re.compile(r"\$\{[^{}]*\}")
_FILL: Final = "\0"
"""Stands in place of each character of a reference while the text is searched."""
_URL: Final = re.compile(
    r"\b[A-Za-z][A-Za-z0-9+.-]*://(?P<authority>[^\s\"'<>/?#]*)(?P<path>[^\s\"'<>?#]*)(?P<rest>[^\s\"'<>]*)"
)
_PARAMETER: Final = re.compile(r"[?&#;,]([^=&#;,?]+)=([^&#;]*)")
_SEGMENT: Final = re.compile(r"(?<=/)[^/]+")
_SECRET_PATH: Final = re.compile(
    r"/(?:services|webhooks?|webhookb2)/(?P<rest>.+)|/s/(?P<one>[^/]+)|/(?P<bot>bot\d+:[^/]+)"
)
"""Paths that are credentials, as in webhooks of Slack, Discord and Zapier and in bot URLs of Telegram."""
_MEMBER: Final = re.compile(
    r"""\\?["'](?P<key>[\w .-]+)\\?["']\s*:\s*"""
    r"""(?:\\"(?P<escaped>[^"\\]*)|"(?P<double>(?:\\.|[^"\\])*)|'(?P<single>[^']*)|(?P<bare>[\w.+-]+))"""
)
_LIST: Final = re.compile(r"""["'](?P<key>[\w .-]+)["']\s*:\s*\[(?P<items>[^\[\]]*)\]""")
_ITEM: Final = re.compile(r'"((?:\\.|[^"\\])*)"')
_PAIR: Final = re.compile(
    r"""(?<![\w$/.-])-{0,2}(?P<key>[A-Za-z_][\w.-]*(?:\ [A-Za-z]+)?)(?:\s*=\s*|:\s+)(?:(?:Bearer|Basic|Token)\s+)?"""
    r"""(?:\\?"(?P<double>[^"\\\x00]+)|'(?P<single>[^'\x00]+)|(?P<bare>[^\s;&,"'\x00]+))""",
    re.IGNORECASE,
)
_OPTION: Final = re.compile(
    r"""(?<!\S)(?:--|-(?!p\S*\d))(?P<key>[A-Za-z][\w-]*)\s+"""
    r"""(?:"(?P<double>[^"\x00]+)"|'(?P<single>[^'\x00]+)'|(?P<bare>[^\s"'\x00-][^\s"'\x00]*))"""
)
_GLUED: Final = re.compile(r"(?<!\S)-p([^\s=:-][^\s=]{5,})")
_CREDENTIALS: Final = re.compile(r"""(?<!\S)(?:-u|--user)[ =]["']?[^\s:"'/]+:(?!\d+(?:\s|$))([^\s"'\x00]+)""")
_SHELL_VARIABLE: Final = re.compile(r"\$(?:[A-Za-z_]\w*|\(.*)")
_TOKEN_END: Final = re.compile(r"[A-Za-z0-9._~+/=-]*")
_MAX_TEXT: Final = 16 * 1024
"""Characters of a text that is searched; all of a longer one counts as a secret."""
_LONG: Final = 16
"""Characters from which on a part of a URL that is no plain text counts as a secret."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A secret part of a text."""

    start: int
    end: int
    name: str


def is_secret_name(name: str) -> bool:
    """Whether a variable, header or option of this name usually holds a secret."""
    words = _HUMP.sub("_", name)
    return bool(_SECRET_NAME.search(name) or _SECRET_NAME.search(words)) and not _HARMLESS_NAME.search(words)


def has_secret_shape(value: str) -> bool:
    """Whether `value` has a part that looks like a token, a key, or a password in a URL."""
    return bool(_SHAPES.search(_UUID.sub("", _REFERENCE.sub("", value))))


def is_secret(name: str, value: str) -> bool:
    """Whether `value`, which is called `name`, must not stand in the configuration; references to variables may."""
    rest = _REFERENCE.sub("", value).strip()
    if not rest or rest.lower() in _NO_SECRETS:
        return False
    return has_secret_shape(value) or is_secret_name(name)


def secret_spans(text: str) -> list[Span]:
    """The parts of `text` that look like secrets, in order, without overlaps; references do not count."""
    searched = _REFERENCE.sub(lambda found: _FILL * len(found[0]), text)
    if len(text) > _MAX_TEXT or "PRIVATE KEY-----" in searched:
        return [Span(0, len(text), "text")]
    urls = [found.span() for found in _URL.finditer(searched)]
    by_name = [span for span in _by_name(searched) if not any(start < span.start < end for start, end in urls)]
    found = [*_in_urls(searched), *by_name, *_by_shape(searched)]
    result: list[Span] = []
    for span in sorted(found, key=lambda one: (one.start, -one.end)):
        if not result or span.start >= result[-1].end:
            result.append(span)
        elif span.end > result[-1].end:
            result[-1] = Span(result[-1].start, span.end, result[-1].name)
    return result


def _in_urls(text: str) -> Iterator[Span]:
    for url in _URL.finditer(text):
        userinfo, at, _ = url["authority"].rpartition("@")
        user, colon, password = userinfo.partition(":")
        start = url.start("authority")
        if colon and password.strip(_FILL):
            yield Span(start + len(user) + 1, start + len(userinfo), "password")
        elif at and not colon and _is_random(user, 0):
            yield Span(start, start + len(user), "user")
        if url[0].lower().startswith(("http", "ws")):
            yield from _in_path(url["path"], url.start("path"))
        for parameter in _PARAMETER.finditer(url[0]):
            name, value = parameter[1], parameter[2]
            if _has_secret_name(name, value) or (not _UUID.fullmatch(value) and _is_random(value, _LONG)):
                yield Span(url.start() + parameter.start(2), url.start() + parameter.end(2), name)


def _in_path(path: str, offset: int) -> Iterator[Span]:
    for found in _SECRET_PATH.finditer(path):
        group = found.lastgroup or "rest"
        if found[group].strip(_FILL):
            yield Span(offset + found.start(group), offset + found.end(group), "url_secret")
    for segment in _SEGMENT.finditer(path):
        if _is_random(segment[0], _LONG):
            yield Span(offset + segment.start(), offset + segment.end(), "url_secret")


def _by_name(text: str) -> Iterator[Span]:
    for pattern in (_MEMBER, _PAIR, _OPTION):
        groups = [name for name in ("escaped", "double", "single", "bare") if name in pattern.groupindex]
        position = 0
        while (found := pattern.search(text, position)) is not None:
            group = next(name for name in groups if found[name] is not None)
            position = max(found.start(group), found.start() + 1)  # there may be a pair in the value of another
            if _has_secret_name(found["key"], found[group]):
                yield Span(found.start(group), found.end(group), found["key"])
                position = found.end(group)
    for found in _LIST.finditer(text):
        for item in _ITEM.finditer(found["items"]):
            if _has_secret_name(found["key"], item[1]):
                start = found.start("items")
                yield Span(start + item.start(1), start + item.end(1), found["key"])
    for credentials in _CREDENTIALS.finditer(text):
        if not _SHELL_VARIABLE.fullmatch(credentials[1]):
            yield Span(credentials.start(1), credentials.end(1), "password")
    for glued in _GLUED.finditer(text):
        if _is_random(glued[1], 0):
            yield Span(glued.start(1), glued.end(1), "password")


def _by_shape(text: str) -> Iterator[Span]:
    for found in _SHAPES.finditer(_UUID.sub(lambda uuid: _FILL * len(uuid[0]), text)):
        if found[0].startswith("://"):
            continue  # the URL has it
        end = _TOKEN_END.match(text, found.end())
        start = found.start() + len(found[0]) - len(re.sub(r"^(?:Bearer|Basic)\s+", "", found[0]))
        yield Span(start, found.end() if end is None else end.end(), "token")


def _has_secret_name(name: str, value: str) -> bool:
    if not is_secret_name(name) or _SHELL_VARIABLE.fullmatch(value):
        return False
    return bool(value.strip(_FILL)) and value.lower() not in _NO_SECRETS


def _is_random(value: str, length: int) -> bool:
    return len(value) >= length and _FILL not in value and not is_plain(value)
