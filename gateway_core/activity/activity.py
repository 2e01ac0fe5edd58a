"""`Activity`: what the control plane asks about what the gateway does, and where its parts report it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from loguru import logger

from gateway_core.activity.agents import SeenAgents
from gateway_core.activity.definitions import DefinitionWatch
from gateway_core.activity.details import CallDetails, of_ended, of_live
from gateway_core.activity.events import (
    MAX_NAME,
    MAX_TEXT,
    EndedCall,
    ListsChanged,
    Logged,
    QuestionsChanged,
    Reloaded,
    SessionChanged,
    UpstreamChanged,
)
from gateway_core.activity.following import Changes, follow
from gateway_core.activity.journal import CALL, Journal
from gateway_core.activity.questions import Answered, Question, listing
from gateway_core.activity.recorder import Recorder
from gateway_core.activity.watching import Watching
from gateway_core.api import OPERATOR, Action, UpstreamState
from gateway_core.concealing import without_pages
from gateway_core.exchange.exchange import Exchange
from gateway_core.log import output, reading
from gateway_core.log.reading import LEVELS, Excerpt, LogLine
from gateway_core.pipeline.input_required.parking import Parking
from gateway_core.pipeline.input_required.question_pages import QuestionPages
from gateway_core.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from loguru import Message

_SEARCHED: Final = 16 * MAX_TEXT
"""Characters of a text of the log that are searched for secrets."""


class LiveCalls(Protocol):
    """The calls that have not ended."""

    def in_flight(self) -> Iterable[tuple[Exchange, float]]:
        """Those that are served, and the seconds since each began."""

    def find(self, exchange_id: str) -> tuple[Exchange, float] | None:
        """A call in flight, or one that waits for its agent, and the seconds since it began or has waited."""

    def cancel(self, exchange_id: str) -> bool: ...


class WaitingCalls(Protocol):
    """The calls that wait for people."""

    @property
    def parking(self) -> Parking: ...
    @property
    def pages(self) -> QuestionPages: ...


class Activity:
    """The activity of one gateway."""

    def __init__(
        self,
        live: Callable[[], LiveCalls],
        waiting: Callable[[], WaitingCalls],
        clean: Callable[[bytes], bytes],
        definitions: Path | None = None,
    ) -> None:
        """`live` and `waiting` return what the gateway makes later than this object.

        `clean`: hides the secrets of the gateway in a line of text. `definitions`: the file that keeps the changes of
        definitions.
        """
        self._live = live
        self._waiting = waiting
        self._clean = clean
        self.journal: Final = Journal()
        self.definitions: Final = DefinitionWatch(self.journal, definitions, clean)
        self._watching = Watching()
        self.agents: Final = SeenAgents()
        self.recorder: Final = Recorder(self.journal, self.agents)
        self._handler: int | None = None

    def start(self) -> None:
        """Take the warnings of the log from now on; needs a running loop."""
        loop = asyncio.get_running_loop()

        def take(message: Message) -> None:
            if not loop.is_closed():  # any thread may log
                loop.call_soon_threadsafe(self._logged, message)

        self._handler = logger.add(take, level="WARNING", format=lambda _: "", catch=True)
        self._waiting().parking.when_changed(self.questions_changed)

    def stop(self) -> None:
        """End what `start` began. Safe to call twice, and before `start`."""
        self._watching.stop_waiting()
        handler, self._handler = self._handler, None
        if handler is not None:
            with contextlib.suppress(ValueError):  # removed by other code
                logger.remove(handler)

    def serve(self, pipeline: Pipeline) -> None:
        """Record the calls of a pipeline."""
        self._watching.attach(pipeline)
        pipeline.deadlines.when_asking(self.questions_changed)

    # -- what happens --------------------------------------------------------------------------------------------

    def upstream_changed(self, name: str, now: UpstreamState, before: UpstreamState, reason: str | None) -> None:
        """An upstream has entered another state."""
        why = None if reason is None or now is UpstreamState.HEALTHY else reason[:MAX_TEXT]
        self.journal.add(
            UpstreamChanged(**self.journal.stamp(), name=name, state=str(now), before=str(before), reason=why)
        )

    def lists_changed(self, kinds: frozenset[str], principal: str) -> None:
        """What agents see has changed: of one principal, or, if that is empty, of all."""
        agent = principal.partition("#")[0][:MAX_NAME] or None
        self.journal.add(ListsChanged(**self.journal.stamp(), kinds=tuple(sorted(kinds)), agent=agent))

    def session_changed(self, key: str, owner: str, open_: bool) -> None:
        """A session has begun or ended."""
        self.journal.add(
            SessionChanged(**self.journal.stamp(), key=key, agent=owner[:MAX_NAME], what="began" if open_ else "ended")
        )

    def reloaded(self, generation: int, changes: int, problems: int) -> None:
        """Another configuration is in force, or was refused because of `problems`; see `Reloaded`."""
        stamp = self.journal.stamp()
        self.journal.add(Reloaded(**stamp, generation=generation, changes=changes, problems=problems))

    def questions_changed(self) -> None:
        """A call asks a person, or does so no longer."""
        open_ = sum(it.asking > 0 for it, _ in self._live().in_flight())
        self.journal.add(QuestionsChanged(**self.journal.stamp(), asking=open_, parked=len(self._waiting().parking)))

    def _logged(self, message: Message) -> None:
        record = message.record
        fields = {
            str(key)[:MAX_NAME]: self._shown(str(value))
            for key, value in record["extra"].items()
            if isinstance(value, str | int | float)
        }
        text = self._shown(record["message"])
        self.journal.add(Logged(**self.journal.stamp(), level=record["level"].name, text=text, fields=fields))

    def _shown(self, text: str) -> str:
        """A text without secrets, cut off. The cut comes last: no search finds half a secret."""
        data = text[:_SEARCHED].encode(errors="replace")
        return without_pages(self._clean(data)).decode(errors="replace")[:MAX_TEXT]

    # -- what operators ask --------------------------------------------------------------------------------------

    @property
    def recording(self) -> bool:
        """Whether every call is recorded; otherwise only those that go wrong."""
        return self._watching.on

    def recent(self, after: int, limit: int, admits: Callable[[EndedCall], bool], browser: str = "") -> list[EndedCall]:
        """Ended calls with higher numbers than `after`, latest first. For a while from now on, all are recorded.

        `browser`: see `Watching.begin`, here and in the methods below.
        """
        self._watching.look(browser)
        found: list[EndedCall] = []
        for call in reversed(self.journal.calls):
            if call.seq <= after or len(found) >= limit:
                break
            if admits(call):
                found.append(call)
        return found

    def call(self, exchange_id: str, browser: str = "") -> CallDetails | None:
        """What is known of a call that has not ended, or has ended lately."""
        self._watching.look(browser)
        live = self._live().find(exchange_id)
        if live is not None:
            return of_live(*live)
        ended = next((it for it in reversed(self.journal.calls) if it.id == exchange_id), None)
        return None if ended is None else of_ended(ended, self.journal.steps_of(exchange_id))

    def follow(self, types: Sequence[str], after: int | None, browser: str = "") -> AsyncIterator[tuple[int, Changes]]:
        """The events of some types, as they come; see `follow`."""
        watch = partial(self._watching.begin, browser) if CALL in types else _nothing
        return follow(self.journal, types, after, watch)

    def questions(self) -> list[Question]:
        """The questions that wait for people."""
        now, waiting = asyncio.get_running_loop().time(), self._waiting()
        return listing(self._live().in_flight(), waiting.parking, waiting.pages, now)

    def cancel_question(self, question_id: str) -> bool:
        """End a call that waits for an answer. Returns whether there is one."""
        found = self._question(question_id)
        return found is not None and self._live().cancel(found["exchange"])

    def answer_question(self, question_id: str, *, approve: bool) -> Answered:
        """Answer a question for which `Ask.approvers` names operators, as if on its page."""
        pages = self._waiting().pages
        found, page = self._question(question_id), pages.find(question_id)
        if page is None:
            return "unknown" if found is None else "not allowed"
        if not page.is_for_operators:
            return "not allowed"
        if found is None:  # answered, or its call was cancelled
            return "too late"
        action: Action = "accept" if approve else "decline"
        if not pages.decide(page, (action, OPERATOR.id)):
            return "too late"
        logger.bind(exchange=page.exchange, generation=page.generation).info(
            "a question of plugin {} was answered by {}: {}", page.plugin, OPERATOR.id, action
        )
        self.questions_changed()
        return "answered"

    def _question(self, question_id: str) -> Question | None:
        return next((one for one in self.questions() if one["id"] == question_id), None)

    async def log(self, after: int, limit: int, level: str, wanted: Sequence[tuple[str, str]]) -> Excerpt:
        """Lines of the log that are at least as severe as `level`: see `excerpt`.

        `wanted`: fields and their values.
        """
        severe = frozenset(LEVELS[LEVELS.index(level) :])

        def admits(line: LogLine) -> bool:
            return line.level in severe and all(line.fields.get(key) == value for key, value in wanted)

        return await asyncio.to_thread(reading.excerpt, output.recent, after, limit, admits)

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self.journal.last


def _nothing() -> Callable[[], None]:
    return lambda: None
