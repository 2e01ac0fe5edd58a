"""Which names agents can take, and to whom a name belongs by its form.

A tool's or prompt's own name may hold characters, or be of a length, that MCP or a client refuses. `Names.local`
gives each of them a name that fits, distinct within its upstream and a function of that upstream's list alone. Names
that begin with `NAME__` form the *namespace* of upstream NAME, as URIs that end in `#upstream=NAME` do: the
gateway qualifies names like that, so no other upstream may offer one of its own.
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
from gateway_core.upstream.lists.inventory import Item

_SAFE: Final = r"A-Za-z0-9_\-"
_DIGITS: Final = (8, 12, 16, 24)
"""Lengths of a digest; a longer one only where a shorter one is taken."""
_URIS: Final[frozenset[Kind]] = frozenset({"resource", "template"})


class Names:
    """The rules of one configuration."""

    def __init__(self, upstreams: Iterable[str], separator: str, config: NamesConfig) -> None:
        self._max = config.max_length
        dot = "." if config.dots else ""
        self._invalid = re.compile(f"[^{_SAFE}{dot}]")
        self.rule: Final = f"1 to {self._max} of A-Z a-z 0-9 {dot}{' ' if dot else ''}_ -"
        """For people."""
        self._separator = separator
        self._upstreams = frozenset(upstreams)
        self._namespaces: dict[str, set[str]] = {}
        for name in self._upstreams:
            self._namespaces.setdefault(self._clean(name + separator), set()).add(name)
        self._longest = sorted(self._namespaces, key=len, reverse=True)

    def local(self, kind: Kind, items: Sequence[Item]) -> dict[str, str]:
        """Own name -> the name that fits, for all items of one upstream; distinct, whatever their order.

        A digest is part of it where a name fits only without what tells it from another one, or from nothing.
        """
        if kind in _URIS:
            return {item.name: item.name for item in items}
        cleaned = {item.name: self._clean(item.name) for item in items}
        alike = Counter(cleaned.values())
        found = {name: clean for name, clean in cleaned.items() if name == clean and len(name) <= self._max}
        taken = set(found)
        for name, clean in sorted(cleaned.items()):
            if name in found:
                continue
            empty = not any(character.isalnum() for character in clean)
            if not empty and alike[clean] == 1 and len(clean) <= self._max and clean not in taken:
                chosen = clean
            else:
                stem = kind if empty else clean
                chosen = next((one for one in self._digested(stem, name) if one not in taken), clean)
            found[name] = chosen
            taken.add(chosen)
        return found

    def valid(self, kind: Kind, name: str) -> str:
        """Any name in a form that fits; distinct names may get one form."""
        if kind in _URIS:
            return name
        clean = self._clean(name) or kind
        return clean if len(clean) <= self._max else next(self._digested(clean, name))

    def owned(self, kind: Kind, upstream: str, name: str) -> Iterator[str]:
        """Names in an upstream's own namespace for what has `name` there, the best one first."""
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
        """The upstreams to which a name belongs by its form; empty where it belongs to none."""
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
