"""The legacy sessions that this process serves: their opening, their use, and every way in which they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import Any, Final

from loguru import logger

from gateway_core.background import Background
from gateway_core.catalog.current import CurrentCatalog
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.sessions import listing
from gateway_core.downstream.sessions.due import Due
from gateway_core.downstream.sessions.kept import KeptSessions
from gateway_core.downstream.sessions.live import LiveSession, SessionEvents
from gateway_core.downstream.sessions.record import SessionRecord, new_record
from gateway_core.downstream.sessions.store import SessionStore
from gateway_core.downstream.subscriptions.asking import Ask
from gateway_core.errors import RpcError, TooManySessions
from gateway_core.exchange.exchange import Agent
from gateway_core.limits.budget import MemoryBudget
from gateway_core.limits.slices import Slices, sliced
from gateway_core.log.sparing import Sparing
from gateway_core.log.wording import count
from gateway_core.supervised import run_each
from gateway_core.upstream.upstream import Upstream

SUBSCRIBE_AGAIN: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before each attempt to restore a subscription to a resource."""


class Sessions:
    """Opens, finds and ends legacy sessions, and keeps their records in the store up to date."""

    def __init__(
        self,
        store: SessionStore,
        catalog: CurrentCatalog,
        events: SessionEvents,
        check_open: Callable[[], None],
        question_timeout: float,
        *,
        call: Ask,
        budget: MemoryBudget | None = None,
        kept: KeptSessions | None = None,
    ) -> None:
        """`check_open` raises `RpcError` while no session may begin. `question_timeout`, `budget`: see `LiveSession`;
        `call`: see `Watched`. `kept`: sessions of an earlier process."""
        self._budget = budget
        self._store = store
        self._catalog = catalog
        self._events = events
        self.check_open: Final = check_open
        self._question_timeout = question_timeout
        self._call = call
        self._live: dict[tuple[str, str], LiveSession] = {}
        """By the key of the caller, and id."""
        self._kept = KeptSessions() if kept is None else kept
        self._credentials: Due[tuple[str, str]] = Due()
        """The sessions whose credentials end, and when, in seconds since the epoch."""
        self._ending = Background("ending a session at the upstreams")
        self._watching = Background("watching the resources of a session again")
        self._spoken = Sparing()

    def use(self, question_timeout: float) -> None:
        """Apply another time for answers to the sessions that are opened from now on."""
        self._question_timeout = question_timeout

    def reconsider(self, gone: Collection[Upstream]) -> None:
        """After a change of the configuration: let the plugins judge what agents watch, and watch it where it is now.

        `gone`: upstreams that were replaced or removed.
        """

        def step(session: LiveSession) -> None:
            session.reconsider(gone)
            if session.record.log_level:
                self._events.log_level(session.record.id, session.record.log_level)

        run_each("applying another configuration to a session", self._spoken, self, step)

    def open(self, caller: Caller, owner: str, *, on_channel: bool = False) -> LiveSession:
        """Open a session; at a limit, end the idlest session that may end. `on_channel`: see `SessionRecord`.

        Raises `RpcError(OVERLOADED)` if all of them are in use, or if the gateway is stopping.
        """
        self.check_open()
        try:
            old = self._store.in_the_way(caller, owner)
        except TooManySessions as error:
            if self._spoken.due(f"refused {owner}"):
                logger.warning("no session for {}: {}; logged once a minute", owner, error.message)
            raise
        if old is not None:
            self._evict(old, owner)
        return self._serve(self._store.create(caller, owner, on_channel=on_channel))

    def _evict(self, old: SessionRecord, owner: str) -> None:
        """End the session `old` for a new one of `owner`."""
        if self._spoken.due(f"ended {old.owner}"):
            logger.warning(
                "a session of {} ended for a new one of {}, unused for {:.0f} s: too many are open "
                "(limits.sessions, limits.sessions_per_principal), its clients may never send DELETE; "
                "logged once a minute",
                old.owner,
                owner,
                self._store.clock() - old.used,
            )
        session = self._live.get((old.caller.key, old.id))
        if session is not None:
            self.end(session)
        else:
            self._store.delete(old)

    def open_unstored(self, caller: Caller, owner: str) -> LiveSession:
        """Open the session of an agent on stdio: no limit applies to it, and it ends with its channel."""
        record = new_record(caller, owner, self._store.clock(), on_channel=True)
        return LiveSession(record, self._store.clock, self._question_timeout, self._budget)

    def _serve(self, record: SessionRecord) -> LiveSession:
        session = LiveSession(record, self._store.clock, self._question_timeout, self._budget)
        self._live[record.caller.key, record.id] = session
        self._note_credentials(record)
        self._events.counted(record.key, record.owner, True)
        return session

    def get(self, caller: Caller, session_id: str) -> LiveSession | None:
        """The session with that id; None unless that caller opened it over Streamable HTTP."""
        session = self._live.get((caller.key, session_id))
        if session is None:
            session = self._restored(caller, session_id)
        if session is None or session.record.on_channel:
            return None
        if caller is not session.record.caller:
            session.renew(caller)
            self._note_credentials(session.record)
        if session.suspended:
            self._wake(session)
        return session

    def _note_credentials(self, record: SessionRecord) -> None:
        """Record when the credentials of a session end."""
        principal = record.caller.principal
        if principal is not None and principal.expires is not None:
            self._credentials.put((record.caller.key, record.id), principal.expires)
        else:
            self._credentials.remove((record.caller.key, record.id))

    def _wake(self, session: LiveSession) -> None:
        """Watch again what a session watched, and notify its agent that it may have changed meanwhile."""
        session.wake()
        for uri in session.record.uris:
            self._watching.run(partial(self._subscribe_again, session, uri))
            session.updated(uri)

    def _restored(self, caller: Caller, session_id: str) -> LiveSession | None:
        """A session that the store has and this process does not serve yet, with its log level and subscriptions."""
        record = self._store.get(caller.key, session_id) or self._recalled(caller, session_id)
        if record is None or record.on_channel:
            return None
        session = self._serve(record)
        session.resume()
        if record.log_level:
            self._events.log_level(record.id, record.log_level)
        for uri in record.uris:
            self._watching.run(partial(self._subscribe_again, session, uri))
        return session

    def _recalled(self, caller: Caller, session_id: str) -> SessionRecord | None:
        """A session of an earlier process, which the store has from now on. At a limit, it ends the idlest one."""
        record = self._kept.take(session_id, caller, self._store.clock())
        if record is None:
            return None
        try:
            old = self._store.in_the_way(caller, record.owner)
            if old is not None:
                self._evict(old, record.owner)
            self._store.adopt(record)
        except TooManySessions:
            return None
        return record

    async def recall(self, idle: float) -> None:
        """Read the sessions of an earlier process. `idle`: see `KeptSessions.load`."""
        await self._kept.load(idle)

    async def keep(self, idle: float) -> None:
        """Let the next process continue the sessions that are not on a channel. `idle`: see `KeptSessions.load`."""
        records = [it.record for it in self if it.record.protocol_version and not it.record.on_channel]
        await self._kept.save(records, self._store.clock(), idle)

    async def _subscribe_again(self, session: LiveSession, uri: str) -> None:
        for wait in SUBSCRIBE_AGAIN:
            if wait:
                await asyncio.sleep(wait)
            if (
                uri not in session.record.uris
                or self._live.get((session.record.caller.key, session.record.id)) is not session
            ):
                return
            try:
                await session.watched(self._catalog, self._call).add(uri)
            except RpcError as error:  # its upstream may not be connected yet
                reason = error.message
            else:
                session.updated(uri)  # it may have changed meanwhile
                self._note_credentials(session.record)  # they may have ended meanwhile
                return
        logger.debug("a session of {} lost a subscription: {}", session.record.owner, reason)
        session.record.unsubscribed(uri)
        self._store.save(session.record)

    def introduce(self, session: LiveSession, agent: Agent) -> None:
        """Make `agent` the agent of the session."""
        session.introduce(agent)
        self._save(session)

    def initialized(self, session: LiveSession) -> None:
        """Let the session get notifications from now on; no effect before `introduce`."""
        session.record.initialized()
        self._save(session)

    def set_log_level(self, session: LiveSession, level: str) -> None:
        session.record.set_log_level(level)
        self._save(session)
        self._events.log_level(session.record.id, level)

    def roots_changed(self, session: LiveSession) -> None:
        self._events.roots_changed(session.record.id)

    async def subscribe(self, session: LiveSession, uri: str) -> None:
        """Subscribe to a resource. Raises `RpcError` as `Watched.add`."""
        await session.watched(self._catalog, self._call).add(uri)
        session.record.subscribed(uri)
        self._save(session)

    def unsubscribe(self, session: LiveSession, uri: str) -> None:
        """End the subscription to a resource; no effect without one."""
        session.watched(self._catalog, self._call).remove(uri)
        session.record.unsubscribed(uri)
        self._save(session)

    def _save(self, session: LiveSession) -> None:
        session.touch()
        self._store.save(session.record)

    def changed(self, kinds: frozenset[str], principal: str = "") -> None:
        """Notify agents that lists have changed: those of a principal, or all."""

        def step(session: LiveSession) -> None:
            visible = kinds if principal else self._catalog.changed_in(session.record.caller.profile, kinds)
            session.changed(visible, principal)

        run_each("telling an agent that lists have changed", self._spoken, self, step)

    def end(self, session: LiveSession) -> None:
        """End a session: cancel its calls, end its streams, close its upstream sessions. No effect if it has ended.

        Upstream sessions close in the background; `wait_closed` waits for that.
        """
        record = session.record
        key = record.caller.key, record.id
        if self._live.pop(key, None) is None:
            return
        self._credentials.remove(key)
        self._store.delete(record)
        session.end()
        self._events.counted(record.key, record.owner, False)
        self._ending.run(partial(self._close_upstream, record.id))

    def end_unstored(self, session: LiveSession) -> None:
        """End the session that `open_unstored` opened, as `end` does."""
        session.end()
        self._ending.run(partial(self._close_upstream, session.record.id))

    def listing(self) -> list[dict[str, Any]]:
        """The sessions that this process serves, for operators."""
        return [listing.session(session, self._store.clock()) for session in self]

    def end_by_key(self, key: str) -> bool:
        """End the session with this key (`SessionRecord.key`). Returns whether there is one."""
        found = next((session for session in self if session.record.key == key), None)
        if found is not None:
            self.end(found)
        return found is not None

    def end_all(self) -> None:
        """End all sessions of this process."""
        run_each("ending a session", self._spoken, self, self.end)

    def end_idle(self) -> None:
        """End the idlest tenth of the sessions without a call, at least one, because memory is short."""
        idle = sorted(
            (it for it in self if it.record.gives_way), key=lambda session: (session.record.busy, session.record.used)
        )
        ended = idle[: max(1, len(idle) // 10)]
        if ended and self._spoken.due("memory"):
            logger.warning(
                "ending {}: memory is short (limits.memory); logged once a minute", count(len(ended), "idle session")
            )
        run_each("ending an idle session", self._spoken, ended, self.end)

    def end_expired(self) -> Slices[None]:
        """End the sessions that were unused for too long or are no longer in the store.

        A session whose credentials have ended watches nothing until its agent proves itself again.
        """
        for records in self._store.expire(lambda: [session.record for session in self]):
            run_each(
                "ending an unused session",
                self._spoken,
                self._served((it.caller.key, it.id) for it in records),
                self.end,
            )
            yield
        now = time.time()
        for keys in sliced(self._credentials.take(now)):
            run_each(
                "suspending a session", self._spoken, self._served(keys), lambda session: session.suspend_if_ended(now)
            )
            yield
        self._kept.expire()

    def _served(self, keys: Iterable[tuple[str, str]]) -> list[LiveSession]:
        return [self._live[key] for key in keys if key in self._live]

    async def _close_upstream(self, session_id: str) -> None:
        """Call `SessionEvents.ended`."""
        waiting = self._events.ended(session_id)
        if waiting is not None:
            await waiting

    async def wait_closed(self, seconds: float) -> None:
        """Wait until `SessionEvents.ended` has finished for all ended sessions, `seconds` at most."""
        await self._ending.wait(seconds)

    async def close(self, seconds: float) -> None:
        """Stop watching resources, because all sessions have ended, and wait as `wait_closed`."""
        self._watching.cancel()
        await self.wait_closed(seconds)

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._live.values()))
