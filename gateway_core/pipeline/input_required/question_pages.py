"""Questions that a person answers in a browser, on a page of the gateway (client/elicitation, URL Mode).

Each page has an address that nobody can guess, belongs to one call, is answered once, and lapses with the question.
Here is what pages there are; `downstream/browsers/question_page.py` serves them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gateway_core.api import OPERATOR, Action, Call, Principal
from gateway_core.concealing import QUESTION_PAGES
from gateway_core.errors import REJECTED, RpcError, overloaded
from gateway_core.exchange.back import BackChannel
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import Question
from gateway_core.hooks.forms import read_answer
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import ELICITED

Decision: TypeAlias = tuple[Action, str]
"""What the person did, and who that was; empty if nothing proves it."""


def _future() -> asyncio.Future[Decision]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False, slots=True)
class QuestionPage:
    """One question of a plugin about one call, on a page."""

    plugin: str
    name: str
    subject: bytes
    """See `GivenAnswer`."""
    message: str
    principal: Principal
    """Whose agent sent the call."""
    approvers: frozenset[str]
    """As `Ask.approvers`; if there are none, the principal itself may answer."""
    exchange: str
    """The id of the exchange that waits for the answer. The retry of a modern agent is another one."""
    generation: int
    """That of the exchange, for the log."""
    until: float
    """Loop time at which it lapses."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    """Its `elicitationId`, by which operators name it, too."""
    answer: asyncio.Future[Decision] = field(default_factory=_future)
    _lapse: asyncio.TimerHandle | None = None

    def lapse_with(self, close: Callable[[QuestionPage], None]) -> None:
        """Call `close` at the time at which the page lapses, unless `end` is called before."""
        self._lapse = asyncio.get_running_loop().call_at(self.until, close, self)

    def continue_in(self, exchange: Exchange) -> None:
        """Another exchange waits for the answer from now on."""
        self.exchange, self.generation = exchange.id, exchange.generation

    def end(self) -> None:
        """Stop waiting for an answer."""
        if self._lapse is not None:
            self._lapse.cancel()
        if not self.answer.done():
            self.answer.cancel()

    def is_about(self, question: Question, call: Call) -> bool:
        """Whether it asks this question about this call, of the same people: a reload may name others."""
        mine = (self.plugin, self.name, self.subject, self.principal.id, self.approvers)
        ask = question.ask
        return mine == (question.plugin, ask.name, call.subject(), call.principal.id, frozenset(ask.approvers))

    @property
    def groups(self) -> frozenset[str]:
        """The groups whose members may answer on the page.

        The id of the operator is no group: credentials of agents may name any group.
        """
        return self.approvers - {OPERATOR.id}

    @property
    def is_for_operators(self) -> bool:
        """Whether operators may answer on the control plane."""
        return OPERATOR.id in self.approvers

    @property
    def answered_by(self) -> str:
        """The id of the principal that has answered; empty without an answer, or if nothing proved who it was."""
        return self.answer.result()[1] if self.answer.done() and not self.answer.cancelled() else ""

    @property
    def left(self) -> float:
        """Seconds until it lapses."""
        return max(0.0, self.until - asyncio.get_running_loop().time())


class QuestionPages:
    """The pages of this process."""

    def __init__(self, limit: int) -> None:
        """`limit`: pages at a time."""
        self._limit = limit
        self._pages: dict[str, QuestionPage] = {}
        self._over: dict[str, None] = {}
        """The tokens of the last pages whose calls ended before the answer."""
        self._address: Callable[[], str] = str
        self._is_local: Callable[[], bool] = bool

    def __len__(self) -> int:
        return len(self._pages)

    def limit_to(self, limit: int) -> None:
        """Apply another limit; pages above it stay."""
        self._limit = limit

    def serve_at(self, address: Callable[[], str], is_local: Callable[[], bool]) -> None:
        """Give the pages addresses that begin with what `address` returns; empty while they cannot be opened.

        `is_local`: whether nothing but browsers on this machine can reach them.
        """
        self._address, self._is_local = address, is_local

    def open(self, question: Question, call: Call, seconds: float, clean: Callable[[bytes], bytes]) -> QuestionPage:
        """Make a page for a question about a call, for some seconds. `clean` hides secrets in JSON.

        Raises `RpcError` if there can be none: no browser reaches the gateway, nothing proves who opens the page, or
        there are too many pages.
        """
        principal, approvers = call.principal, frozenset(question.ask.approvers)
        if not self._address():
            raise RpcError.of_gateway(REJECTED, "this gateway serves stdio alone, and has no pages")
        if not (approvers or principal.verified or self._is_local()):
            why = "nothing proves who opens the page: the agent is not verified, and no approvers are named"
            raise RpcError.of_gateway(REJECTED, why)
        if len(self._pages) >= self._limit:
            raise overloaded("too many questions wait for answers already; ask again later")
        loop = asyncio.get_running_loop()
        ask = question.ask
        message = jsonrpc.value(clean(jsonrpc.encode(ask.message)))
        page = QuestionPage(
            plugin=question.plugin,
            name=ask.name,
            subject=call.subject(),
            message=message,
            principal=principal,
            approvers=approvers,
            exchange=call.exchange_id,
            generation=call.generation,
            until=loop.time() + seconds,
        )
        page.lapse_with(self.close)
        self._pages[page.token] = page
        return page

    def url(self, page: QuestionPage) -> str:
        """The address of a page."""
        return f"{self._address()}{QUESTION_PAGES}{page.token}"

    def at(self, token: str) -> QuestionPage | None:
        """The page with that token; None if there is none, or not any more."""
        return self._pages.get(token)

    def is_over(self, token: str) -> bool:
        """Whether the call of the page with that token ended before the answer."""
        return token in self._over

    def find(self, page_id: str) -> QuestionPage | None:
        """The page with that `id`; None if there is none, or not any more."""
        return next((page for page in self._pages.values() if page.id == page_id), None)

    def unanswered(self) -> Iterator[QuestionPage]:
        """The pages without an answer."""
        return (page for page in self._pages.values() if not page.answer.done())

    def about(self, token: str, question: Question, call: Call) -> QuestionPage | None:
        """The page with that token, if it asks this question about this call."""
        page = self.at(token)
        return page if page is not None and page.is_about(question, call) else None

    def may_answer(self, page: QuestionPage, person: Principal | None) -> bool:
        """Whether a person whom a browser proves may answer; None for one who proves nothing.

        That is judged at the time of the answer, since a reload may have changed who reaches the pages.
        """
        if page.approvers:
            return person is not None and person.verified and not page.groups.isdisjoint(person.groups)
        if person is None:
            return not page.principal.verified and self._is_local()
        return person.id == page.principal.id

    def decide(self, page: QuestionPage, decision: Decision) -> bool:
        """Take the person's answer; False if there is one already, or if the page has lapsed."""
        if page.token not in self._pages or page.answer.done():
            return False
        page.answer.set_result(decision)
        return True

    def close(self, page: QuestionPage | None) -> None:
        """Forget a page: its question is answered, has lapsed, or is not asked any more. No effect for None."""
        if page is None:
            return
        self._pages.pop(page.token, None)
        page.end()

    def abandon(self, page: QuestionPage | None) -> None:
        """Forget a page whose call has ended before the answer, except for `is_over`. No effect for None."""
        if page is None or page.token not in self._pages:
            return
        self.close(page)
        self._over[page.token] = None
        while len(self._over) > self._limit:
            del self._over[next(iter(self._over))]

    def abandon_of(self, exchange: str) -> None:
        """Abandon the pages about the call of an exchange."""
        for page in [page for page in self._pages.values() if page.exchange == exchange]:
            self.abandon(page)


async def decided(page: QuestionPage) -> bytes:
    """The answer that a person gives on a page, as an `ElicitResult`. Raises `TimeoutError` if the page lapses."""
    await asyncio.wait([page.answer])
    if page.answer.cancelled():
        raise TimeoutError
    action, _ = page.answer.result()
    return jsonrpc.encode({"action": action})


async def opened(back: BackChannel, asking: Coroutine[Any, Any, bytes], page: QuestionPage) -> bytes:
    """The answer that a legacy agent's user gives on a page, or that of a client that does not open it.

    `asking` sends the address to the client. Raises what it raises, or as `decided`.
    """
    opening = asyncio.ensure_future(asking)
    opening.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        both: list[asyncio.Future[Any]] = [opening, page.answer]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            given = opening.result()
            if read_answer(given, None, "its answer")[0] != "accept":
                return given
        answer = await decided(page)
        back.notify(ELICITED, jsonrpc.encode({"elicitationId": page.id}))
        return answer
    finally:
        opening.cancel()
