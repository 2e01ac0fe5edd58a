"""Hands spans to the exporter in the SDK's thread, counts what is lost, and says so sparingly."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from loguru import logger
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from requests import PreparedRequest

BATCH: Final = 512
"""Spans in one request to the collector, at most."""
DELAY: Final = 2.0
"""Seconds after which spans are sent, if there are fewer."""
PERIOD: Final = 60.0
"""Seconds between two lines about lost spans."""
MAX_REASON: Final = 200
_OF_THE_LIBRARY: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "user-agent"}
)
_LIBRARY: Final = logging.getLogger("opentelemetry")


def only_headers(names: Collection[str], request: PreparedRequest) -> PreparedRequest:
    """Remove all headers from a request but `names` (lower case) and those of HTTP itself.

    The exporter adds headers of the environment (`OTEL_EXPORTER_OTLP_HEADERS`), and requests a password of `~/.netrc`.
    They are secrets for another endpoint than that of the settings.
    """
    for name in [name for name in request.headers if name.lower() not in _OF_THE_LIBRARY.union(names)]:
        del request.headers[name]
    return request


class Counted(SpanExporter):
    """An exporter whose failures are counted."""

    def __init__(self, inner: SpanExporter, place: str) -> None:
        """`place`: where the spans go, for people."""
        self._inner = inner
        self._place = place
        self._spoken = float("-inf")
        self.taken = 0
        """Spans that the thread took to send them."""
        self.lost = 0
        """Spans that could not be delivered."""
        self.failing = False
        """Whether the last attempt failed."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans. Never raises."""
        self.taken += len(spans)
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the gateway goes on
            result = SpanExportResult.FAILURE
            self._lose(len(spans), type(error).__name__)
        else:
            if result is SpanExportResult.SUCCESS:
                if self.failing:
                    logger.info("observe_traces: {} takes spans again; {} were lost", self._place, self.lost)
                self.failing = False
            else:
                self._lose(len(spans), "")
        return result

    def _lose(self, number: int, reason: str) -> None:
        self.lost += number
        self.failing = True
        if time.monotonic() - self._spoken >= PERIOD:
            self._spoken = time.monotonic()
            logger.warning("observe_traces: {}; logged once a minute", self.problem(reason))

    def problem(self, reason: str = "") -> str:
        """What is wrong, for people."""
        why = f" ({reason})" if reason else ""
        return (
            f"spans cannot be delivered to {self._place}{why}: {self.lost} are lost; check that a collector runs there"
        )

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class Batches(BatchSpanProcessor):
    """A bounded queue of spans; those that find no room are counted."""

    def __init__(self, exporter: Counted, limit: int) -> None:
        super().__init__(exporter, limit, DELAY * 1000, min(BATCH, limit))
        self._exporter = exporter
        self._limit = limit
        self._given = 0
        self.dropped = 0
        """Spans that found no room."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span that has ended."""
        if self._given - self._exporter.taken - self.dropped >= self._limit:
            self.dropped += 1  # the queue drops its oldest span
        self._given += 1
        super().on_end(span)


class Pipeline:
    """The queue of spans and their exporter; the thread runs from here on until `close`."""

    def __init__(self, exporter: SpanExporter, place: str, limit: int) -> None:
        """`place`: where the spans go, for people. `limit`: the most spans that wait."""
        _LIBRARY.setLevel(logging.CRITICAL)  # what it would say at each attempt, `Counted` says once a minute
        self.exporter: Final = Counted(exporter, place)
        self.batches: Final = Batches(self.exporter, limit)

    @property
    def problem(self) -> str:
        """What is wrong at present, for `status`; empty if nothing is."""
        if self.exporter.failing:
            return self.exporter.problem()
        return f"{self.batches.dropped} spans found no room in the queue" if self.batches.dropped else ""

    def close(self, seconds: float) -> bool:
        """Send what is queued and end the thread. Returns whether that was done in time."""
        closing = threading.Thread(target=self.batches.shutdown, name="traces: close", daemon=True)
        closing.start()
        closing.join(seconds)
        return not closing.is_alive()
