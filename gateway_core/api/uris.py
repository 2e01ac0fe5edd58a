"""Globs of URIs that hold for every way of writing a URI.

A server may decode a URI and walk its path before it uses it, so that `file:///public/../secret` and
`file:///public/%2E%2E/secret` are the file `/secret`. A rule that allows must therefore match a URI both as it is
written and as it is *resolved* (RFC 3986, 6.2.2); one that restricts need match only one of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from gateway_core.api.globs import Globs

_PARTS: Final = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.*-]*+):)?(//[^/?#]*+)?([^?#]*+)(.*)", re.DOTALL)
"""Scheme, authority, path, and the rest. A glob may have `*` in its scheme."""
_BEGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.*-]*+:")
_IGNORED: Final = dict.fromkeys(map(ord, "\t\r\n"))
"""Characters that parsers of URLs remove, wherever they stand."""
_BLANK: Final = "".join(map(chr, range(0x21)))
"""Characters that they remove at both ends."""
_ENCODED: Final = re.compile(r"(?:%(?!2[35Aa]|3[Ff])[0-9A-Fa-f]{2})+")
"""Encoded characters, except for `%` and those that have a meaning in a glob or end a path."""

_WILD: Final = re.compile(r"[*?]")
_VARIABLE: Final = re.compile(r"\{[^{}]*\}")

_HERE: Final = frozenset({"", "//", "//localhost", "//127.0.0.1"})
"""The authorities of a file of the server's own machine (RFC 8089, appendix B)."""


class UriGlobs(Globs):
    """A list of globs of URIs and of URI templates (RFC 6570)."""

    def __init__(self, globs: Iterable[str] = (), *, separators: str = "") -> None:
        super().__init__(globs, separators=separators)
        self._resolved: Final = Globs({form for glob in self for form in _forms(glob)}, separators=separators)

    def surely_match(self, uri: str) -> bool:
        """Whether the URI matches however a server reads it."""
        return self.matches(uri) and self._resolved.matches(resolved(uri))

    def perhaps_match(self, uri: str) -> bool:
        """Whether the URI matches in any way in which a server may read it."""
        return self.matches(uri) or any(map(self._resolved.matches, _forms(uri)))

    def cover(self, template: str) -> bool:
        """Whether surely every URI of a template matches."""
        literal = _VARIABLE.split(template, maxsplit=1)[0]
        stems = (glob.rstrip("*") for glob in self if glob[-1] == "*")
        return template in self or any(_WILD.search(stem) is None and literal.startswith(stem) for stem in stems)

    def may_match(self, template: str) -> bool:
        """Whether a URI of a template may match; False only if surely none does."""
        parts = _VARIABLE.split(template)
        return any(_agree(parts[0], parts[-1], glob) for glob in self)


def resolved(uri: str, *, fold: bool = False) -> str:
    """The URI with its scheme in lower case and its path decoded, without `.`, `..` and empty segments.

    `fold`: with its authority in lower case, too.
    """
    found = _PARTS.fullmatch(uri.translate(_IGNORED).strip(_BLANK))
    assert found is not None, "every text matches"
    scheme, authority, path, rest = (part or "" for part in found.groups())
    if "%" in path:
        path = _ENCODED.sub(lambda run: unquote(run[0], errors="replace"), path)
    path = _walked(path.replace("\\", "/"))
    scheme = f"{scheme.lower()}:" if scheme else ""
    if scheme == "file:" and authority.lower() in _HERE:
        authority = "//"
    return unicodedata.normalize("NFC", f"{scheme}{authority.lower() if fold else authority}{path}{rest}")


def _walked(path: str) -> str:
    """The path without `.`, `..` and empty segments; a slash at the end stays."""
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    begin = "/" if path.startswith("/") else ""
    end = "/" if kept and segments[-1] in {"", ".", ".."} else ""
    return begin + "/".join(kept) + end


def _forms(text: str) -> set[str]:
    """The forms that a URI, or `UPSTREAM:URI`, has once it is resolved."""
    found = {resolved(text), resolved(text, fold=True)}
    upstream, _, uri = text.partition(":")
    if _BEGIN.match(uri.translate(_IGNORED).lstrip(_BLANK)) is not None:
        found |= {f"{upstream}:{resolved(uri)}", f"{upstream}:{resolved(uri, fold=True)}"}
    return found


def _agree(begin: str, end: str, glob: str) -> bool:
    """Whether the literal begin and end of a template and those of a glob do not contradict each other."""
    parts = _WILD.split(glob)
    first, last = parts[0], parts[-1]
    return (begin.startswith(first) or first.startswith(begin)) and (end.endswith(last) or last.endswith(end))
