"""Hides what the configuration gives an upstream in its stderr lines and error messages, which operators read.

Servers quote their arguments and credentials there: in full, cut, or over two lines. So parts of secrets are hidden
too. `gateway_core/concealing.py` hides the secrets of all upstreams in everything else that leaves the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from gateway_core.concealing import MARKER, MIN_LINE, MIN_SECRET, HeldSecrets, Secret, any_of, forms
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.config.secrets import private_values_of, secrets_of, secrets_of_upstream

_MAX_PART: Final = 16
"""Most characters of a part of a secret that must match before it is hidden; for short secrets a quarter."""
_SHORT: Final = 64
"""Characters of a word up to which every part is searched for; of a longer one, parts at regular distances."""


def held_secrets(proxy: ProxyConfig, admin_token: str = "", read_token: str = "") -> HeldSecrets:
    """The secrets that a gateway with this configuration and these tokens of the control plane holds."""
    return HeldSecrets((*secrets_of(proxy), *control_secrets(admin_token, read_token)), _report)


def control_secrets(admin_token: str, read_token: str) -> tuple[Secret, ...]:
    """The tokens of the control plane as secrets."""
    return Secret("the change token", admin_token), Secret("the read token", read_token)


def _report(upstream: str, label: str) -> None:
    from loguru import logger  # noqa: PLC0415 - early children start before it is loaded

    logger.bind(upstream=upstream, secret=label).warning(
        "the server sent a secret of the gateway; it is hidden from agents, and further ones are not reported"
    )


class Concealer:
    """Hides values in texts: `secrets` also in parts, `private` only as a whole."""

    def __init__(self, secrets: Iterable[str], private: Iterable[str] = ()) -> None:
        given = frozenset(secrets)
        self._wholes = {form.encode(errors="replace") for value in (*given, *private) for form in forms(value)}
        self._words = {word.encode(errors="replace") for value in given for word in _words(value)}
        self._patterns: tuple[Any, Any] | None = None

    @classmethod
    def of(cls, config: UpstreamConfig) -> Concealer:
        """A concealer for the configuration of this upstream."""
        return cls((secret.value for secret in secrets_of_upstream(config)), private_values_of(config))

    def hide(self, text: str, before: str = "") -> str:
        """`text` with each value replaced by `MARKER`. `before`: the line before it, in which a value may begin."""
        if not self._wholes:
            return text
        data = (before + text).encode(errors="replace")
        kept = len(before.encode(errors="replace"))
        found: list[list[int]] = []
        for start, end in sorted(self._spans(data)):
            if found and start <= found[-1][1]:
                found[-1][1] = max(end, found[-1][1])
            elif end > kept:
                found.append([max(start, kept), end])
        pieces: list[bytes] = []
        for start, end in found:
            pieces += (data[kept:start], MARKER.encode())
            kept = end
        return b"".join((*pieces, data[kept:])).decode() if pieces else text

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where a value or a part of one begins and ends; they may overlap."""
        if self._patterns is None:  # compiled late: most servers never write to stderr
            parts = {part for word in self._words for part in _parts(word)}
            self._patterns = any_of(self._wholes), any_of(parts) if parts else None
        wholes, parts_of_words = self._patterns
        yield from (match.span() for match in wholes.finditer(data))
        if parts_of_words is not None:
            for match in parts_of_words.finditer(data):
                yield self._grown(data, *match.span())

    def _grown(self, data: bytes, start: int, end: int) -> tuple[int, int]:
        """The longest stretch around a part that is in the same secret."""
        part = data[start:end]
        first, last = start, end
        for word in self._words:
            at = word.find(part)
            if at < 0:
                continue
            left = right = 0
            while left < min(at, start) and word[at - left - 1] == data[start - left - 1]:
                left += 1
            behind = word[at + len(part) :]
            while right < min(len(behind), len(data) - end) and behind[right] == data[end + right]:
                right += 1
            first, last = min(first, start - left), max(last, end + right)
        return first, last


def _words(value: str) -> Iterator[str]:
    """The texts to search for in parts: a token, with or without its scheme, or lines of a key; not prose or code."""
    words = value.split()
    if 0 < len(words) <= 2:
        yield words[-1]
    elif value.lstrip().startswith("-----BEGIN"):
        yield from (word for word in words if len(word) >= MIN_LINE)


def _parts(word: bytes) -> Iterator[bytes]:
    size = max(MIN_SECRET, min(_MAX_PART, len(word) // 4))
    step = 1 if len(word) <= _SHORT else size // 2
    return (word[at : at + size] for at in range(0, len(word) - size + 1, step))
