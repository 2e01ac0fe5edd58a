"""Lists that end their server: a process that exits whenever one list is requested keeps its other lists.

After a connection was lost with several lists in flight, the next fetch requests one list at a time. So the loss can
be attributed. A list that was alone in flight at `PROOF` losses is *fatal*, if the server answered another list on
the same connection. Later fetches skip it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from gateway_core.api import Kind
from gateway_core.errors import DeliveryError, OutcomeUnknown
from gateway_core.upstream.base import Connection, ServerInfo
from gateway_core.upstream.lists.fetched_lists import FetchedList, FetchedLists
from gateway_core.upstream.lists.gathering import Failure, ListRequests, Outcome

PROOF: Final = 2
"""Losses with only this list in flight that prove it fatal."""
SKIP_FIRST: Final = 600.0
SKIP_MAX: Final = 86_400.0
"""Seconds for which a fatal list is skipped: initial and maximum. Only a new connection requests it again."""


@dataclass(slots=True)
class _Suspect:
    """What lost connections say about one list."""

    losses: int = 0
    """Losses with only this list in flight."""
    skipped_until: float = 0.0
    """0 if it is to be requested."""
    reason: str = ""
    """How the server last ended."""
    partial: FetchedList | None = None
    """Its first pages, if the server ended after them."""

    def lost(self, reason: str, outcome: Outcome | None) -> None:
        """Record one more loss."""
        self.losses += 1
        self.reason = reason
        if isinstance(outcome, FetchedList):
            self.partial = outcome

    def skip(self, now: float) -> None:
        """Skip the list, for longer with each loss."""
        self.skipped_until = now + min(SKIP_FIRST * 2.0 ** (self.losses - PROOF), SKIP_MAX)

    def connected(self, now: float) -> None:
        """Request the list again if its time has passed."""
        if self.skipped_until <= now:
            self.skipped_until = 0.0


class FatalLists:
    """Attributes lost connections to lists, and names those to skip."""

    def __init__(self, upstream: str, conceal: Callable[[str], str], clock: Callable[[], float]) -> None:
        """`conceal` hides secrets of the configuration in the server's last words."""
        self._upstream = upstream
        self._conceal = conceal
        self._clock = clock
        self._server = ("", "")
        self._separate = False
        """Whether to request one list at a time."""
        self._suspects: defaultdict[Kind, _Suspect] = defaultdict(_Suspect)

    def connected(self, info: ServerInfo) -> None:
        """Record a new connection. Lists whose time has passed are due again; for another version, all are."""
        server = (info.name, info.version)
        if server != self._server:
            self._server = server
            self._suspects.clear()
        now = self._clock()
        for suspect in self._suspects.values():
            suspect.connected(now)

    @property
    def skipped(self) -> frozenset[Kind]:
        """The lists not to request."""
        return frozenset(kind for kind, suspect in self._suspects.items() if suspect.skipped_until)

    def marked(self, fetched: FetchedLists, kinds: Collection[Kind]) -> FetchedLists:
        """A copy that says of these lists that they are skipped, and why; with their last known entries."""
        for kind in kinds:
            suspect = self._suspects[kind]
            if suspect.partial is not None and kind not in fetched.items:
                fetched = fetched.with_list(kind, suspect.partial, hinted=False)
            why = (
                f"the server ended each of the {suspect.losses} times that it was asked for this list alone "
                f"({suspect.reason})"
            )
            fetched = fetched.with_failure(kind, fetched.report(self._upstream, kind, "is skipped", why))
        return fetched

    def requests(self, kinds: Collection[Kind]) -> ListRequests:
        """Begin a fetch of these lists. Suspects come last, so that others are answered before."""
        return ListRequests(sorted(kinds, key=self._losses), separate=self._separate)

    def _losses(self, kind: Kind) -> int:
        return self._suspects[kind].losses

    def answered(self, requests: ListRequests) -> None:
        """Record that the server lives after this fetch."""
        for kind in requests.answered - requests.in_flight:
            self._suspects.pop(kind, None)

    async def lost(
        self, connection: Connection, outcomes: Mapping[Kind, Outcome], requests: ListRequests
    ) -> DeliveryError:
        """Attribute the loss of a connection during this fetch, and return its error. Only the first call counts."""
        reason = await connection.wait_closed()
        suspects = frozenset(requests.in_flight)
        requests.in_flight.clear()
        self._separate = self._separate or bool(suspects)
        if len(suspects) == 1:
            (kind,) = suspects
            suspect, words = self._suspects[kind], connection.last_words
            suspect.lost(self._conceal(f"{reason}: {words}" if words else reason), outcomes.get(kind))
            if suspect.losses >= PROOF and requests.answered - suspects:
                suspect.skip(self._clock())
        failures = (found.error for found in outcomes.values() if isinstance(found, Failure))
        errors = (error for error in failures if isinstance(error, DeliveryError))
        return next(errors, OutcomeUnknown(f"the server {reason}"))
