"""Lists that end their server: a process that exits whenever one list is requested keeps its other lists.

After a connection was lost with several lists in flight, the next fetch requests one list at a time. So the loss can
be attributed. A list that was alone in flight at `PROOF` losses is *fatal*, if the server answered another list on
the same connection. Later fetches skip it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
        self._losses: dict[Kind, int] = {}
        """Losses with only this list in flight."""
        self._until: dict[Kind, float] = {}
        """Fatal list -> time until which it is skipped."""
        self._reasons: dict[Kind, str] = {}
        """How the server last ended."""
        self._partial: dict[Kind, FetchedList] = {}
        """The first pages of lists during which the server ended."""

    def connected(self, info: ServerInfo) -> None:
        """Record a new connection. Lists whose time has passed are due again; for another version, all are."""
        server = (info.name, info.version)
        if server != self._server:
            self._server = server
            self._losses.clear()
            self._until.clear()
        now = self._clock()
        self._until = {kind: until for kind, until in self._until.items() if until > now}

    @property
    def skipped(self) -> frozenset[Kind]:
        """The lists not to request."""
        return frozenset(self._until)

    def marked(self, fetched: FetchedLists, kinds: Collection[Kind]) -> FetchedLists:
        """A copy that says of these lists that they are skipped, and why; with their last known entries."""
        for kind in kinds:
            if kind in self._partial and kind not in fetched.items:
                fetched = fetched.with_list(kind, self._partial[kind], hinted=False)
            times, reason = self._losses.get(kind, 0), self._reasons.get(kind, "")
            why = f"the server ended each of the {times} times that it was asked for this list alone ({reason})"
            fetched = fetched.with_failure(kind, fetched.report(self._upstream, kind, "is skipped", why))
        return fetched

    def requests(self, kinds: Collection[Kind]) -> ListRequests:
        """Begin a fetch of these lists. Suspects come last, so that others are answered before."""
        return ListRequests(sorted(kinds, key=lambda kind: self._losses.get(kind, 0)), separate=self._separate)

    def answered(self, requests: ListRequests) -> None:
        """Record that the server lives after this fetch."""
        for kind in requests.answered - requests.in_flight:
            self._losses.pop(kind, None)

    async def lost(
        self, connection: Connection, outcomes: Mapping[Kind, Outcome], requests: ListRequests
    ) -> DeliveryError:
        """Attribute the loss of a connection during this fetch, and return its error. Only the first call counts."""
        reason = await connection.wait_closed()
        errors = [found.error for found in outcomes.values() if isinstance(found, Failure)]
        suspects = frozenset(requests.in_flight)
        requests.in_flight.clear()
        self._separate = self._separate or bool(suspects)
        if len(suspects) == 1:
            (kind,) = suspects
            outcome, words = outcomes.get(kind), connection.last_words
            if isinstance(outcome, FetchedList):
                self._partial[kind] = outcome
            times = self._losses[kind] = self._losses.get(kind, 0) + 1
            self._reasons[kind] = self._conceal(f"{reason}: {words}" if words else reason)
            if times >= PROOF and requests.answered - suspects:
                self._until[kind] = self._clock() + min(SKIP_FIRST * 2.0 ** (times - PROOF), SKIP_MAX)
        lost = (error for error in errors if isinstance(error, DeliveryError))
        return next(lost, OutcomeUnknown(f"the server {reason}"))
