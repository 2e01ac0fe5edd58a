"""Hides the secrets that the gateway holds in everything that leaves it: answers, the log, the control plane.

A secret is searched for whole, trimmed, line by line, percent-encoded, and as JSON and `repr` write it. Usual answers
are cleared by a few byte searches: each form of a secret contains one of the `probes`, and the bytes that follow it
there are among the `_grams`. Only data that contains such a gram is searched by one RE2 automaton.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import quote, quote_plus

from gateway_core.patterns import compiled

LOGIN_PAGES: Final = "/oauth/start/"
"""The beginning of the paths of pages where users log in; the rest of such a path is a secret of one user."""
QUESTION_PAGES: Final = "/ask/"
"""The beginning of the paths of pages where people answer questions of plugins; the rest is a secret, too."""
_LOGIN, _QUESTION = LOGIN_PAGES.encode(), QUESTION_PAGES.encode()
_PAGE: Final = re.compile(rb"(%b|%b(?=[\w-]{43}(?![\w-])))[\w-]+" % (_LOGIN, _QUESTION))
MIN_SECRET: Final = 6
"""Characters; a shorter value is not searched for, because it stands in harmless text too."""
MARKER: Final = "[REDACTED]"
_MARKER: Final = MARKER.encode()
MAX_LEARNED: Final = 4
"""Values kept of a secret that changes at run time; an upstream may still quote an old one."""
MIN_LINE: Final = 16
"""Minimum characters of a line that is searched for on its own, in a secret of several lines."""

MAX_PIECE: Final = 512
"""Characters of a secret that are searched for at once; a longer one is searched for in pieces."""
MAX_LENGTH: Final = 64 * 1024
"""Characters of a secret that are hidden; the rest of a longer one is not."""
MAX_MEMORY: Final = 256 * 1024 * 1024
"""Bytes that RE2 may use for a pattern and its states; usual ones take less than a megabyte."""

_GRAM: Final = 4
"""Bytes of a gram. Every form has at least `MIN_SECRET` bytes."""
_RARE_FIRST: Final = b'^~`|%$#!&*?<>;@+=QZXJKVYWqUGHjzBNOFxLDMRPkCTISEvAw978645b3ygpfmu2hcd.l_-01/inrsoate():{}[]\\ ,"'
"""Bytes by their frequency in answers, the rarest first."""
_OUTSIDE_STRINGS: Final = re.compile(rb"[-+.,:{}\[\]\s0-9eEtrufalsn]+")
"""A form that valid JSON may contain outside of strings."""
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|-?[0-9][-+.0-9eE]*+', re.DOTALL)
_UNICODE_ESCAPE: Final = re.compile(rb"u[0-9A-Fa-f]{0,3}")
_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-f]{4}|.)")
_IN_GO: Final = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}
_IN_NET: Final = {ord(character): f"\\u{ord(character):04X}" for character in "<>&'+`"}
_BACKSLASH: Final = ord("\\")


class Secret(NamedTuple):
    """A value to hide."""

    label: str
    """Where it comes from, such as a key of the configuration, for the log."""
    value: str


class _Automaton(NamedTuple):
    json: Any
    """Finds every form as JSON strings contain it."""
    text: Any
    """Finds every form as it is."""


class _Matcher:
    """Finds a fixed set of secrets. Immutable, because several threads use it."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._in_json: Final[dict[bytes, str]] = {}
        self.labels: Final[dict[bytes, str]] = {}
        """Form -> label of its secret."""
        for label, value in secrets:
            for form in forms(value):
                self.labels.setdefault(form.encode(errors="replace"), label)
                for written in _as_json(form):
                    self._in_json.setdefault(written.encode(errors="replace"), label)
        self.labels.update(self._in_json)
        self.is_ambiguous: Final = any(_OUTSIDE_STRINGS.fullmatch(form) is not None for form in self._in_json)
        """Whether a form may also match outside of strings."""
        self.probes, self._grams = _probes(self.labels)
        self._automaton: _Automaton | None = None

    def clears(self, data: bytes) -> bool:
        """Whether a quick search proves that `data` contains no form."""
        find, grams = data.find, self._grams
        for probe in self.probes:
            at = find(probe)
            left = 4 + (len(data) >> 9)  # the automaton is faster than more attempts
            while at >= 0:
                if data[at : at + _GRAM] in grams or not left:
                    return False
                left -= 1
                at = find(probe, at + 1)
        return True

    @property
    def automaton(self) -> _Automaton:
        if self._automaton is None:
            self._automaton = _Automaton(any_of(self._in_json), any_of(self.labels))
        return self._automaton


class HeldSecrets:
    """The secrets of one gateway. `learn` adds secrets that the gateway obtains later."""

    def __init__(self, secrets: Iterable[Secret] = (), on_found: Callable[[str, str], None] | None = None) -> None:
        """`on_found`: called once for each pair of a source and the label of a secret hidden in what it sent."""
        self._fixed = tuple(secrets)
        self._learned: dict[str, deque[str]] = {}
        self._found: set[tuple[str, str]] = set()
        self._on_found = on_found
        self._matcher = _Matcher(self._fixed)
        self._probes = self._matcher.probes

    def hold(self, secrets: Iterable[Secret]) -> None:
        """Hide these secrets in place of those of the constructor, and still all that were learned."""
        self._fixed = tuple(secrets)
        self._renew()

    def learn(self, label: str, value: str) -> None:
        """Also hide `value` from now on; the last `MAX_LEARNED` values of a label are hidden."""
        values = self._learned.setdefault(label, deque(maxlen=MAX_LEARNED))
        if value not in values:
            values.append(value)
            self._renew()

    def _renew(self) -> None:
        learned = (Secret(label, value) for label, values in self._learned.items() for value in values)
        self._matcher = _Matcher((*self._fixed, *learned))
        self._probes = self._matcher.probes

    def clean(self, data: bytes, source: str = "") -> bytes:
        """One JSON message with secrets replaced by `MARKER`; the same object if there are none.

        Only strings change, and numbers that are a secret. `source`: the upstream that sent it, if any.
        """
        matcher = self._matcher
        return data if matcher.clears(data) else self._cleaned(data, matcher, source)

    def cleaner(self, source: str) -> Callable[[bytes], bytes]:
        """`clean` for one source, on the path of every call."""

        def clean(data: bytes) -> bytes:
            for probe in self._probes:
                if probe in data:
                    return self.clean(data, source)
            return data

        return clean

    def clean_line(self, data: bytes) -> bytes:
        """Text as UTF-8 with secrets replaced by `MARKER`; the same object if there are none."""
        matcher = self._matcher
        return data if matcher.clears(data) else self._without(data, matcher.automaton.text)

    def _cleaned(self, data: bytes, matcher: _Matcher, source: str) -> bytes:
        pattern = matcher.automaton.json
        if not matcher.is_ambiguous:
            return self._without(data, pattern, source, is_json=True)
        if pattern.search(data) is None:
            return data

        def cleaned(token: re.Match[bytes]) -> bytes:
            found = token.group()
            if found.startswith(b'"'):
                return self._without(found, pattern, source, is_json=True)
            if found not in matcher.labels:
                return found
            self._report(matcher.labels[found], source)
            return b'"%b"' % _MARKER

        return _TOKEN.sub(cleaned, data)

    def _without(self, data: bytes, pattern: Any, source: str = "", *, is_json: bool = False) -> bytes:
        pieces: list[bytes] = []
        kept = at = 0
        while (match := pattern.search(data, at)) is not None:
            start, end = match.span()
            if is_json and _is_in_escape(data, start):
                at = start + 1
                continue
            self._report(self._matcher.labels.get(match.group(), ""), source)
            pieces += (data[kept:start], _MARKER)
            kept = at = end
        return b"".join((*pieces, data[kept:])) if pieces else data

    def _report(self, label: str, source: str) -> None:
        if source and self._on_found is not None and (source, label) not in self._found:
            self._found.add((source, label))
            self._on_found(source, label)


def without_pages(data: bytes) -> bytes:
    """Text to keep, without the addresses of pages where people log in or answer; agents need them, and get them."""
    return _PAGE.sub(rb"\1" + _MARKER, data) if _LOGIN in data or _QUESTION in data else data


def forms(value: str) -> set[str]:
    """The texts to search for: the whole secret, and its lines if it has several; empty if it is short."""
    parts = {value, value.strip()}
    lines = value.splitlines()
    if len(lines) > 1:  # but not prose, code, and the first and last line of a PEM block
        parts.update(line.strip() for line in lines if len(line.strip()) >= MIN_LINE and len(line.split()) == 1)
    found = {
        form
        for whole in parts
        for part in (whole[at : at + MAX_PIECE] for at in range(0, min(len(whole), MAX_LENGTH), MAX_PIECE))
        for form in (
            part,
            json.dumps(part)[1:-1],
            json.dumps(part, ensure_ascii=False)[1:-1],
            repr(part)[1:-1],
            quote(part, safe="", errors="replace"),
            quote(part, errors="replace"),
            quote_plus(part, errors="replace"),
        )
    }
    return {form for form in found if len(form) >= MIN_SECRET}


def _as_json(text: str) -> set[str]:
    """The content of a JSON string, as the encoders of several languages write it."""
    plain, in_ascii = json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]
    in_net = _ESCAPE.sub(_as_net, in_ascii).translate(_IN_NET)
    return {
        *(plain, in_ascii, _ESCAPE.sub(_in_capitals, in_ascii), in_net, plain.translate(_IN_GO)),
        *(plain.replace("/", "\\/"), in_ascii.replace("/", "\\/")),
    }


def _in_capitals(escape: re.Match[str]) -> str:
    found = escape.group()
    return "\\u" + found[2:].upper() if len(found) > 2 else found


def _as_net(escape: re.Match[str]) -> str:
    return "\\u0022" if escape.group() == '\\"' else _in_capitals(escape)


def _probes(forms: Iterable[bytes]) -> tuple[tuple[int, ...], frozenset[bytes]]:
    """A few bytes of which every form contains one, the rarest possible, and the grams that begin there."""
    rank = {byte: number for number, byte in enumerate(_RARE_FIRST)}
    rarest = [(min(rank.get(byte, 0) for byte in form[: 1 - _GRAM]), form) for form in forms]
    probes: list[int] = []
    grams: set[bytes] = set()
    for _, form in sorted(rarest, reverse=True):  # those without a rare byte first: others may contain the same one
        heads = form[: 1 - _GRAM]
        probe = next((byte for byte in probes if byte in heads), None)
        if probe is None:
            probe = min(heads, key=lambda byte: rank.get(byte, 0))
            probes.append(probe)
        at = heads.index(probe)
        grams.add(form[at : at + _GRAM])
    return tuple(probes), frozenset(grams)


def any_of(forms: Iterable[bytes]) -> Any:
    """An RE2 pattern for bytes that finds each of these, the longest first."""
    pattern = b"|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
    try:
        return compiled(pattern, is_latin=True, max_memory=MAX_MEMORY)
    except ValueError:  # too large: slower, but it hides the same
        return re.compile(pattern)


def _is_in_escape(data: bytes, at: int) -> bool:
    """Whether position `at` of JSON is inside of an escape sequence."""
    begin = at
    near = data[max(at - 4, 0) : at]
    letter = near.rfind(b"u")
    if letter >= 0 and _UNICODE_ESCAPE.fullmatch(near, letter) is not None:
        begin = at - len(near) + letter
        if begin and data[begin - 1] != _BACKSLASH:
            begin = at
    first = begin
    while first and data[first - 1] == _BACKSLASH:
        first -= 1
    return (begin - first) % 2 == 1
