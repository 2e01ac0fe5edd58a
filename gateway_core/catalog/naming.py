"""Valid published names, and the upstreams' namespaces.

MCP or a client may reject the characters or the length of a tool's or prompt's own name. `Names.local` maps each own
name to a valid name. It is unique within its upstream and depends only on that upstream's list. Names that begin with
`NAME__`, and URIs that end in `#upstream=NAME`, form the *namespace* of upstream NAME. The gateway qualifies names in
this way, so no other upstream may publish its own names there.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from gateway_core.api import Kind
from gateway_core.api.conflict import marked_uri, unmarked_uri
from gateway_core.config import NamesConfig
from gateway_core.limits.slices import Slices, mapped
from gateway_core.upstream.lists.fetched_lists import Item

_SAFE: Final = r"A-Za-z0-9_\-"
_DIGITS: Final = (8, 12, 16, 24)
"""Lengths of a digest in hexadecimal digits; a longer one is used only if a shorter one is taken."""
MAX_SHOWN: Final = 100
"""Maximum characters of a name in a message; a name from an upstream may be very long."""
_URIS: Final[frozenset[Kind]] = frozenset({"resource", "template"})


class Names:
    """The naming rules of one configuration."""

    def __init__(self, upstreams: Iterable[str], separator: str, config: NamesConfig) -> None:
        self._max = config.max_length
        dot = "." if config.dots else ""
        self._invalid = re.compile(f"[^{_SAFE}{dot}]")
        self.rule: Final = f"1 to {self._max} of A-Z a-z 0-9 {dot}{' ' if dot else ''}_ -"
        """The rule for valid names, for messages."""
        self._separator = separator
        self._upstreams = frozenset(upstreams)
        self._namespaces: dict[str, set[str]] = {}
        for name in self._upstreams:
            self._namespaces.setdefault(self._clean(name + separator), set()).add(name)
        self._longest = sorted(self._namespaces, key=len, reverse=True)

    def local(self, kind: Kind, items: Sequence[Item]) -> Slices[dict[str, str]]:
        """Own name -> unique valid name, for all items of one upstream, independent of their order, in slices.

        A name gets a digest if its cleaned form has no letter or digit, is too long, or is ambiguous.
        """
        if kind in _URIS:
            return {item.name: item.name for item in items}
        names = [item.name for item in items]
        cleaned = dict(zip(names, (yield from mapped(self._clean, names)), strict=True))
        alike = Counter(cleaned.values())
        found = {name: clean for name, clean in cleaned.items() if name == clean and len(name) <= self._max}
        taken = set(found)

        def choose(name: str) -> None:
            clean = cleaned[name]
            empty = not any(character.isalnum() for character in clean)
            if not empty and alike[clean] == 1 and len(clean) <= self._max and clean not in taken:
                chosen = clean
            else:
                stem = kind if empty else clean
                chosen = next((one for one in self._digested(stem, name) if one not in taken), clean)
            found[name] = chosen
            taken.add(chosen)

        yield from mapped(choose, sorted(cleaned.keys() - found.keys()))
        return found

    def valid(self, kind: Kind, name: str) -> str:
        """A valid form of any name; different names may get the same form."""
        if kind in _URIS:
            return name
        clean = self._clean(name) or kind
        return clean if len(clean) <= self._max else next(self._digested(clean, name))

    def owned(self, kind: Kind, upstream: str, name: str) -> Iterator[str]:
        """Candidate names in an upstream's namespace for its item `name`, best first."""
        if kind in _URIS:
            marked = name
            for _ in _DIGITS:
                marked = marked_uri(marked, upstream)
                yield marked
            return
        full = f"{upstream}{self._separator}{name}"
        clean = self._clean(full)
        if len(clean) <= self._max:
            yield clean
        yield from self._digested(clean, full)

    def namespace(self, kind: Kind, name: str) -> frozenset[str]:
        """The upstreams whose namespace contains the name; empty if there are none."""
        if kind in _URIS:
            owner = unmarked_uri(name)[1]
            return frozenset({owner}) & self._upstreams
        for prefix in self._longest:
            if name.startswith(prefix):
                return frozenset(self._namespaces[prefix])
        return frozenset()

    def _clean(self, name: str) -> str:
        return self._invalid.sub("_", name)

    def _digested(self, stem: str, full: str) -> Iterator[str]:
        digest = hashlib.sha256(full.encode(errors="surrogatepass")).hexdigest()
        for digits in _DIGITS:
            yield f"{stem[: self._max - 1 - digits]}_{digest[:digits]}"


def shortened(name: str) -> str:
    """A name as messages show it."""
    return name if len(name) <= MAX_SHOWN else f"{name[: MAX_SHOWN - 1]}…"
