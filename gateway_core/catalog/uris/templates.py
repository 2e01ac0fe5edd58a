"""The published URI templates, and the search for templates that may match a URI.

Templates and URIs both come from strangers, so three bounds keep a look-up cheap: templates are found by their literal
beginning, only `MAX_MATCHED` of one upstream are matched, and `Effort` limits the tests of one result or request.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import msgspec

from gateway_core.catalog.entry import Entry
from gateway_core.limits.slices import Slices, mapped
from gateway_core.patterns import compiled, escaped

MAX_MATCHED: Final = 256
"""Templates of one upstream that URIs are matched with; further ones are listed, but match nothing."""
MAX_TEMPLATE: Final = 8 * 1024
"""Characters of a template that URIs are matched with."""
MAX_PATTERNS: Final = 2048
"""Compiled patterns that are kept."""
PATTERN_MEMORY: Final = 256 * 1024
"""Bytes that RE2 may use for one pattern."""
PREFIX: Final = 64
"""Characters of a template's literal beginning by which it is found."""
EFFORT: Final = 512 * 1024
"""Characters that the tests of one result or request may read; see `Effort`."""
TEST_COST: Final = 2048
"""Characters that a test counts for, besides those of the URI."""
LOOK_COST: Final = 16
"""Characters that a look at a template counts for, if its literal beginning matches the URI."""

_EXPRESSION: Final = re.compile(r"\{(.)?[^{}]*\}")
_OPERATORS: Final = frozenset("+#./;?&")
"""First characters of the expressions that may match several segments of a path (RFC 6570, 2.2)."""


class Effort:
    """The tests that one result or one request may cause."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = EFFORT

    @property
    def spent(self) -> bool:
        """Whether no further test is allowed."""
        return self.left < 0

    def spend(self, cost: int) -> bool:
        """Count work; False if it is too much."""
        self.left -= cost
        return self.left >= 0


class TemplateMatch(msgspec.Struct, frozen=True):
    """A published URI template that URIs are matched with."""

    entry: Entry

    @property
    def mark(self) -> str:
        """The suffix that was added to the upstream's template; empty if it was not renamed."""
        return self.entry.name.removeprefix(self.entry.original)

    @property
    def rank(self) -> tuple[bool, int, int, int]:
        """Sorts renamed templates first, then precise templates before greedy ones.

        A template is more precise if it begins with more literal characters, then if it has more of them in total,
        then if fewer of its expressions match several segments of a path.
        """
        template = self.entry.original
        literals = len(_EXPRESSION.sub("", template))
        greedy = sum(found.group(1) in _OPERATORS for found in _EXPRESSION.finditer(template))
        return not self.mark, -len(template.partition("{")[0]), -literals, greedy

    def matches(self, original: str, effort: Effort) -> bool:
        """Whether the upstream's own template matches the upstream's own URI; False if `effort` is spent."""
        if not effort.spend(TEST_COST + len(original)):
            return False
        pattern = template_pattern(self.entry.original)
        return pattern is not None and pattern.fullmatch(original) is not None

    def original_of(self, uri: str, effort: Effort) -> str | None:
        """The upstream's own URI for a published URI; None if the URI does not match this template."""
        mark = self.mark
        if mark and not uri.endswith(mark):
            return None
        original = uri.removesuffix(mark) if mark else uri
        return original if self.matches(original, effort) else None


class Templates(msgspec.Struct, frozen=True):
    """The published templates by their literal beginnings."""

    warnings: tuple[str, ...] = ()
    _by_prefix: Mapping[str, tuple[tuple[int, TemplateMatch], ...]] = msgspec.field(default_factory=dict)
    """At most `PREFIX` characters -> the templates that begin so, each with its place in the order of `rank`."""
    _lengths: tuple[int, ...] = ()
    """The lengths of all those beginnings."""

    @classmethod
    def of(cls, entries: Mapping[str, Entry]) -> Slices[Templates]:
        """The templates of published entries, by published name, in slices."""
        taken: Counter[str] = Counter()
        kept: list[TemplateMatch] = []
        for entry in entries.values():
            owner = entry.upstreams[0].name
            taken[owner] += 1
            if taken[owner] <= MAX_MATCHED and len(entry.original) <= MAX_TEMPLATE:
                kept.append(TemplateMatch(entry))
        by_prefix: dict[str, list[tuple[int, TemplateMatch]]] = {}
        ranks = yield from mapped(lambda match: match.rank, kept)
        for number, at in enumerate(sorted(range(len(kept)), key=ranks.__getitem__)):
            match = kept[at]
            prefix = match.entry.original.partition("{")[0][:PREFIX]
            by_prefix.setdefault(prefix, []).append((number, match))
        warnings = tuple(
            f"upstream {owner} has {count} URI templates: only the first {MAX_MATCHED} are matched with URIs that it "
            "does not list"
            for owner, count in taken.items()
            if count > MAX_MATCHED
        )
        lengths = tuple(sorted({len(prefix) for prefix in by_prefix}))
        return cls(warnings, {prefix: tuple(found) for prefix, found in by_prefix.items()}, lengths)

    def candidates(self, uri: str, effort: Effort) -> list[TemplateMatch]:
        """The templates whose beginning the URI shares, in the order of `rank`; none if `effort` is spent."""
        if effort.spent:
            return []
        groups = [self._by_prefix.get(uri[:length], ()) for length in self._lengths if length <= len(uri)]
        found = sorted(chain.from_iterable(groups), key=lambda pair: pair[0])
        return [match for _, match in found] if effort.spend(LOOK_COST * len(found)) else []


@lru_cache(maxsize=MAX_PATTERNS)
def template_pattern(template: str) -> Any:
    """An RE2 pattern for the URIs of an RFC 6570 template; None if the template is malformed or too complex.

    RE2 does not backtrack, which matters because the template is untrusted input. Simple expressions (`{name}`) stop at
    `/`, `?` and `#`; those with an operator (`{+path}`, `{?query}`) do not.
    """
    pattern: list[str] = []
    rest = template
    while rest:
        literal, brace, rest = rest.partition("{")
        pattern.append(escaped(literal))
        if not brace:
            break
        expression, closed, rest = rest.partition("}")
        if not closed or not expression:
            return None
        if expression[0] in _OPERATORS:
            pattern.append(".*")
        else:
            pattern.append("[^/?#]*" if "*" in expression or "," in expression else "[^/?#]+")
    try:
        return compiled("".join(pattern), max_memory=PATTERN_MEMORY)
    except ValueError:
        return None
