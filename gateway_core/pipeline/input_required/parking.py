"""Parks calls of modern agents while a legacy upstream waits for the answer to its question.

A legacy server asks while the call runs, but a modern agent can be asked only in the response to its request. So the
call continues in a separate task, and the agent gets `input_required`. Its retry with the answers **rejoins** the call.
If no retry arrives within the time for answers, the upstream's call is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from loguru import logger
from msgspec import Raw

from gateway_core.api import Principal
from gateway_core.errors import CANCELLED, INVALID_PARAMS, RpcError, overloaded
from gateway_core.exchange.exchange import Exchange
from gateway_core.limits.shares import Holder, Shares, holder_of
from gateway_core.mcp import jsonrpc
from gateway_core.pipeline.input_required.places import Place, Waiting
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.upstream import Upstream

CLOSING: Final = 2.0
"""Seconds in which abandoned calls may send cancellations to their upstreams."""


@dataclass(slots=True)
class _Question:
    method: str
    params: bytes
    answer: asyncio.Future[bytes]


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class ParkedCall:
    """One request at a legacy upstream, over all its rounds."""

    upstream: Upstream
    exchange: Exchange
    """The exchange of the first round, which the upstream's connection holds; later ones join it."""
    task: asyncio.Task[Reply] = field(init=False)
    questions: dict[str, _Question] = field(default_factory=dict)
    news: asyncio.Future[None] = field(default_factory=_future)
    """Done when the call has ended or has a new question."""
    _lapse: asyncio.TimerHandle | None = None
    """The timer of a parked call."""
    _numbers: int = 0

    def start(self, request: Request) -> None:
        """Send the request in a task; questions of the server then go to `ask`."""
        upstream, exchange = self.upstream, self.exchange
        exchange.divert_questions(self.ask)
        self.task = asyncio.create_task(upstream.request(exchange, request), name=f"call of {upstream.name}")
        self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Reply]) -> None:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report an abandoned call
        self.refuse(_over())
        self.tell()

    async def ask(self, method: str, params: bytes) -> bytes:
        """Wait for the agent's answer (this is `Exchange.asker`). Raises `RpcError` if there will be none."""
        if self.task.done():
            raise _over()
        self._numbers += 1
        key = f"question-{self._numbers}"
        question = self.questions[key] = _Question(method, params, asyncio.get_running_loop().create_future())
        self.tell()
        try:
            return await question.answer
        finally:
            self.questions.pop(key, None)

    def await_news(self) -> None:
        """Replace `news` by a future that is not done."""
        self.news = _future()

    def set_lapse(self, seconds: float, lapsed: Callable[[str], None], key: str) -> None:
        """Call `lapsed` with `key` after `seconds`, unless `clear_lapse` is called before."""
        self._lapse = asyncio.get_running_loop().call_later(seconds, lapsed, key)

    def clear_lapse(self) -> None:
        if self._lapse is not None:
            self._lapse.cancel()

    def tell(self) -> None:
        """Complete `news`."""
        if not self.news.done():
            self.news.set_result(None)

    def open_questions(self) -> dict[str, _Question]:
        return {key: question for key, question in self.questions.items() if not question.answer.done()}

    def refuse(self, error: RpcError) -> None:
        """Answer all open questions with an error."""
        for question in self.open_questions().values():
            question.answer.set_exception(error)


class Parking:
    """The parked calls of this process. A retry at another process is rejected.

    Calls that wait for an answer to a plugin count, too. Of those only the **place** is here: nothing was sent yet.
    """

    def __init__(self, limit: int, per_principal: int, wait: float) -> None:
        """`limit`: calls in total. `per_principal`: calls of one principal; one address has at
        most three quarters of `limit`. `wait`: seconds for the answers."""
        self._limit = limit
        self._per_principal = per_principal
        self._wait = wait
        self._parked: dict[str, ParkedCall] = {}
        self._places: dict[str, Place] = {}
        self._shares: Shares[str] = Shares()
        """The keys of the parked calls, by their agents."""
        self._ending: set[asyncio.Task[Reply]] = set()
        self._emptied: asyncio.Event = asyncio.Event()
        self._changed: Callable[[], None] = lambda: None
        self._cancelled: Callable[[str], None] = lambda exchange_id: None

    def when_cancelled(self, cancelled: Callable[[str], None]) -> None:
        """Call `cancelled` with the id of the exchange when a call that waits is cancelled."""
        self._cancelled = cancelled

    def when_changed(self, changed: Callable[[], None]) -> None:
        """Call `changed` when a call begins or ends to wait."""
        self._changed = changed

    def limit_to(self, limit: int, per_principal: int, wait: float) -> None:
        """Apply other limits to the calls that are parked from now on. Arguments as for the constructor."""
        self._limit, self._per_principal, self._wait = limit, per_principal, wait

    def __len__(self) -> int:
        return len(self._parked) + len(self._places)

    async def send(self, upstream: Upstream, exchange: Exchange, request: Request) -> Reply | ParkedCall:
        """Begin a call. Returns its reply, or the call if it has questions. Raises as `Upstream.request`."""
        call = ParkedCall(upstream, exchange)
        call.start(request)
        return await self._round(call)

    async def rejoin(self, key: str, exchange: Exchange, answers: Mapping[str, Raw]) -> Reply | ParkedCall | None:
        """Continue the call parked under `key`; None if there is none. Returns and raises as `send` otherwise.

        Questions that `answers` leaves open are asked again (basic/patterns/mrtr, Error Handling).
        """
        call = self._taken(key)
        if call is None:
            return None
        call.exchange.rejoin(exchange)
        for name, question in call.open_questions().items():
            if name in answers:
                question.answer.set_result(bytes(answers[name]))
        call.await_news()
        if call.task.done() or call.open_questions():
            call.tell()
        hops, waiting = exchange.hops, self._round(call)
        try:
            return await (waiting if hops is None else hops.resume(call.upstream.view, waiting, _is_reply))
        finally:
            exchange.lacks(call.exchange.missing)

    def park(self, call: ParkedCall) -> str:
        """Keep `call` until its agent retries; returns its key."""
        key = self._new_key(holder_of(call.exchange.agent.principal))
        self._parked[key] = call
        call.exchange.leave()
        call.set_lapse(self._wait, self._lapsed, key)
        self._changed()
        return key

    def calls(self) -> Iterator[tuple[Exchange, float]]:
        """The parked calls, and the seconds for which each has waited for its agent."""
        now = asyncio.get_running_loop().time()
        for call in list(self._parked.values()):
            yield call.exchange, now - call.exchange.away_since

    def waiting(self) -> Iterator[tuple[Waiting, float]]:
        """The calls that wait for answers to plugins, and the seconds for which each has waited."""
        now = asyncio.get_running_loop().time()
        for place in list(self._places.values()):
            yield place.waiting, now - place.since

    def cancel(self, exchange_id: str) -> bool:
        """Abandon a parked call, or one that waits for the answer to a plugin, by the id of its exchange.

        Returns whether there was one.
        """
        for key, call in list(self._parked.items()):
            if call.exchange.id == exchange_id:
                self._taken(key)
                self._give_up(call)
                self._cancelled(exchange_id)
                return True
        for key, place in list(self._places.items()):
            if place.waiting.exchange == exchange_id:
                self.leave_place(key)
                self._cancelled(exchange_id)
                return True
        return False

    async def wait_empty(self, seconds: float) -> None:
        """Wait until no call is parked, at most `seconds`."""
        if len(self):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(seconds, 0.0)):
                    await self._emptied.wait()

    def take_place(self, principal: Principal, waiting: Waiting, seconds: float) -> str:
        """Count a call that waits for the answer to a plugin, for `seconds` at most. Returns the key of its place.

        Raises `RpcError(OVERLOADED)` if a limit is reached.
        """
        holder = holder_of(principal)
        if self._is_full(holder):
            raise _too_many()
        key = self._new_key(holder)
        now = asyncio.get_running_loop().time()
        self._keep_place(key, holder, waiting, now, now + seconds)
        return key

    def leave_place(self, key: str) -> Place | None:
        """Stop counting such a call; None if its place has lapsed or was left before."""
        place = self._places.pop(key, None)
        if place is not None:
            place.lapse.cancel()
            self._shares.remove(key)
            self._tell_if_empty()
            self._changed()
        return place

    def return_to_place(self, key: str, place: Place) -> None:
        """Count such a call again after `leave_place`, unless its place would have lapsed or a limit is reached."""
        if place.until > asyncio.get_running_loop().time() and not self._is_full(place.holder):
            self._shares.add(place.holder, key)
            self._emptied.clear()
            self._keep_place(key, place.holder, place.waiting, place.since, place.until)

    def _keep_place(self, key: str, holder: Holder, waiting: Waiting, since: float, until: float) -> None:
        lapse = asyncio.get_running_loop().call_at(until, self.leave_place, key)
        self._places[key] = Place(holder, waiting, since, until, lapse)
        self._changed()

    async def close(self) -> None:
        """Abandon all calls, and wait up to `CLOSING` seconds for the cancellations."""
        for key in list(self._places):
            self.leave_place(key)
        for key in list(self._parked):
            call = self._taken(key)
            assert call is not None
            self._give_up(call)
        if self._ending:
            await asyncio.wait(list(self._ending), timeout=CLOSING)

    async def _round(self, call: ParkedCall) -> Reply | ParkedCall:
        """Wait for the reply, or for questions to the agent. Cancellation abandons the call."""
        try:
            while True:
                await call.news
                if not call.task.done():
                    await asyncio.sleep(0)  # collect questions that arrive together
                if call.task.done():
                    call.exchange.divert_questions(None)
                    return call.task.result()
                if call.open_questions() and not self._refuse(call):
                    return call
                call.await_news()
        except asyncio.CancelledError:
            self._give_up(call)
            raise

    def _refuse(self, call: ParkedCall) -> bool:
        """If a limit is reached, answer the call's questions with an error and return True."""
        if not self._is_full(holder_of(call.exchange.agent.principal)):
            return False
        call.refuse(_too_many())
        return True

    def _is_full(self, holder: Holder) -> bool:
        own, near = len(self._shares.of(holder)), self._shares.of_network(holder[0])
        of_network = max(self._per_principal, self._limit * 3 // 4)
        return len(self) >= self._limit or own >= self._per_principal or near >= of_network

    def _new_key(self, holder: Holder) -> str:
        key = secrets.token_hex(16)
        self._shares.add(holder, key)
        self._emptied.clear()
        return key

    def _tell_if_empty(self) -> None:
        if not len(self):
            self._emptied.set()

    def _taken(self, key: str) -> ParkedCall | None:
        call = self._parked.pop(key, None)
        if call is None:
            return None
        self._shares.remove(key)
        self._tell_if_empty()
        call.clear_lapse()
        self._changed()
        return call

    def _lapsed(self, key: str) -> None:
        call = self._taken(key)
        if call is not None:
            exchange = call.exchange
            logger.bind(**exchange.log_fields, upstream=call.upstream.name).info(
                "a call is cancelled: its client did not come back with answers within {:g} s", self._wait
            )
            self._give_up(call)

    def _give_up(self, call: ParkedCall) -> None:
        """Cancel the upstream's call; the connection sends the cancellation in the server's era."""
        call.task.cancel()
        self._ending.add(call.task)
        call.task.add_done_callback(self._ending.discard)


def _is_reply(outcome: object) -> bool:
    return isinstance(outcome, Reply)


def answers_in(raw: Raw) -> Mapping[str, Raw]:
    """The members of `inputResponses`. Raises `RpcError(INVALID_PARAMS)` unless each is an object."""
    found = jsonrpc.members(raw, "params.inputResponses")
    if any(bytes(answer).lstrip()[:1] != b"{" for answer in found.values()):
        raise RpcError.of_gateway(INVALID_PARAMS, "each member of params.inputResponses must be an object")
    return found


def _too_many() -> RpcError:
    return overloaded("too many calls wait for answers of clients already; ask again later")


def _over() -> RpcError:
    return RpcError.of_gateway(CANCELLED, "the call that asked is over")
