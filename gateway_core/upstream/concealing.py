"""Hides the secrets in an upstream's configuration from its stderr lines and error messages.

Servers quote their arguments and credentials on stderr and in error messages. Operators read both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway_core.config import UpstreamConfig

MIN_SECRET: Final = 4
"""Characters; shorter values (`1`, `on`) are not secrets, and hiding them would make the text unreadable."""
_HIDDEN: Final = "***"

_SECRET_NAME: Final = re.compile(
    r"secret|token|passw|passphrase|pwd|key|auth|credential|cookie|header|env$", re.IGNORECASE
)
_OPTION: Final = re.compile(r"--?[A-Za-z][\w.-]*")
_NAMED: Final = re.compile(r"([\w.-]+)\s*[=:]\s*(?!//|=)(.+)", re.DOTALL)
_PLAIN: Final = re.compile(
    r"[~.]{0,2}/.*"  # a path
    r"|@?[A-Za-z][A-Za-z._/-]*((@|==)[\w.^~*-]+)?"  # a word, a package
    r"|[\d.:]{1,15}",  # a port, a version, an address
    re.DOTALL,
)


class Concealer:
    """Replaces each of `secrets` in texts, longest first."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = sorted({secret for secret in secrets if len(secret) >= MIN_SECRET}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, found))) if found else None

    @classmethod
    def of(cls, config: UpstreamConfig) -> Concealer:
        """A concealer for all secrets in this upstream's configuration."""
        return cls(_secrets(config))

    def hide(self, text: str) -> str:
        """`text` with each secret replaced by `***`."""
        return text if self._pattern is None else self._pattern.sub(_HIDDEN, text)


def _secrets(config: UpstreamConfig) -> Iterator[str]:
    yield from config.env.values()
    yield from _of_arguments(config.args)
    yield from _of_headers(config.headers)
    if config.url is not None:
        yield from _of_url(config.url)
    if config.proxy is not None:
        yield from _of_url(config.proxy)
    if config.auth is not None:
        for secret in (config.auth.client_secret, config.auth.private_key):
            if secret is not None:
                yield secret.get_secret_value()
                yield secret.get_secret_value().strip()


def _of_headers(headers: Mapping[str, str]) -> Iterator[str]:
    for value in headers.values():
        yield value
        yield value.partition(" ")[2]  # servers may quote a token without its scheme


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
        elif named is not None and not argument.startswith(("/", ".")):
            yield from _of_value(named[1], named[2])
        else:
            yield from _of_value(option, argument)
        option = ""


def _of_value(name: str, value: str) -> Iterator[str]:
    if "://" in value and " " not in value:
        yield from _of_url(value)
    elif _SECRET_NAME.search(name) or not _PLAIN.fullmatch(value):
        yield value
        yield value.partition(" ")[2]
        named = _NAMED.fullmatch(value)
        if named is not None:
            yield from _of_value(named[1], named[2])


def _of_url(url: str) -> Iterator[str]:
    """The password (or the user, if there is none) and the query values of a URL, both encoded and decoded."""
    try:
        parts = urlsplit(url)
    except ValueError:
        yield url
        return
    userinfo = parts.netloc.rpartition("@")[0]
    user, colon, password = userinfo.partition(":")
    raw = [password if colon else user, *(pair.partition("=")[2] for pair in parts.query.split("&"))]
    yield from raw
    yield from map(unquote, raw)
    yield from (value for _, value in parse_qsl(parts.query))
