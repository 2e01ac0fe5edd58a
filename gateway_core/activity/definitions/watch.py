"""Reports the definitions that differ when the lists of an upstream change, and keeps the changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from loguru import logger

from gateway_core.activity.definitions.changes import MAX_OF_ONE, DefinitionChange, MemberChange, Record
from gateway_core.activity.definitions.comparing import Comparisons
from gateway_core.activity.definitions.differences import Difference, Differences
from gateway_core.activity.definitions.kept import VERSION, ChangesFile, Content
from gateway_core.activity.events import DefinitionsChanged
from gateway_core.activity.journal import Journal
from gateway_core.log.wording import count
from gateway_core.upstream.status import Definitions, PrivateTo

DELAY: Final = 1.0
"""Seconds from a change until it is written, because lists often change several times in a row."""
MAX_EVENTS: Final = 20
"""Changes of one server at once that have an event each."""
MAX_LOGGED: Final = 5
"""Definitions, and members of one, that a line of the log names."""
MAX_SHOWN: Final = 80
"""Characters of a name in the log."""


class DefinitionWatch:
    """The changes of definitions of all upstreams."""

    def __init__(self, journal: Journal, path: Path | None = None, clean: Callable[[bytes], bytes] = bytes) -> None:
        """`path`: the file that keeps the changes; None: they last as long as the process. `clean`: hides the secrets
        of the gateway in a text."""
        self._journal = journal
        self._clean = clean
        self._file = ChangesFile(path)
        kept = self._file.read()
        self._record = Record((self._cleaned(change) for change in kept.changes), kept.left_out)
        self._comparisons = Comparisons(self._take, clean)
        self._to_write = False
        self._writing: asyncio.Task[None] | None = None
        self._in_thread: asyncio.Task[None] | None = None
        """The last write."""

    # -- what happens --------------------------------------------------------------------------------------------

    def compare(
        self, upstream: str, before: Definitions, after: Definitions, private: PrivateTo | None = None, /
    ) -> None:
        """See `Comparisons.add`."""
        self._comparisons.add(upstream, before, after, private)

    def _take(self, upstream: str, found: Differences, is_private: bool) -> None:
        """Log, record and report the changes of one upstream.

        `is_private`: its lists for one agent. For the changes that several agents get, see `Record.repeats_latest`.
        """
        total, number = len(found.found), found.number("changed")
        kept = [self._change(upstream, one) for one in found.shown]
        if is_private:
            new = [change for change in kept if not self._record.repeats_latest(change)]
            total, number = total - len(kept) + len(new), number - len(kept) + len(new)
            kept = new
        often = {change.of for change in kept if self._record.unseen_of(change) >= MAX_OF_ONE}
        named = [change for change in kept if change.what == "changed" and change.of not in often]
        self._log(upstream, named, number, " to an agent" if is_private else "")
        self._record.leave_out(total - len(kept))
        for position, change in enumerate(kept):
            self._record.add(change)
            if position < MAX_EVENTS:
                last = position == MAX_EVENTS - 1
                self._journal.add(_event(change, total - MAX_EVENTS if last else 0))
        self._write_soon()

    def _change(self, upstream: str, found: Difference) -> DefinitionChange:
        stamp = self._journal.stamp()
        members = tuple(MemberChange(one.name, one.before, one.after, one.cut) for one in found.members)
        return DefinitionChange(
            stamp["seq"],
            stamp["at"],
            upstream,
            found.kind,
            found.name,
            found.what,
            members,
            found.more,
            seen=False,
        )

    def _cleaned(self, change: DefinitionChange) -> DefinitionChange:
        """A change of the file without the secrets that the gateway did not hold when it wrote the change."""

        def shown(text: str | None) -> str | None:
            return None if text is None else self._shown(text)

        members = tuple(
            MemberChange(self._shown(it.name), shown(it.before), shown(it.after), it.cut) for it in change.members
        )
        return DefinitionChange(
            change.id,
            change.at,
            change.upstream,
            change.kind,
            self._shown(change.name),
            change.what,
            members,
            change.more,
            change.seen,
        )

    def _shown(self, text: str) -> str:
        return self._clean(text.encode(errors="backslashreplace")).decode(errors="replace")

    def _log(self, upstream: str, changed: Sequence[DefinitionChange], number: int, whom: str) -> None:
        """`number`: all changed definitions. `whom`: to whom they were published; empty for everybody."""
        if not changed:
            return
        named = [f"{it.kind} {it.name[:MAX_SHOWN]!r} ({_members(it)})" for it in changed[:MAX_LOGGED]]
        if more := number - len(named):
            named.append(f"{more} more")
        logger.bind(upstream=upstream).warning(
            "upstream {} changed {} that it had published{}: {}; to compare them: rad mcp proxy definitions",
            upstream,
            "a definition" if len(named) == 1 else "definitions",
            whom,
            ", ".join(named),
        )

    # -- what operators ask --------------------------------------------------------------------------------------

    @property
    def unseen(self) -> int:
        """Number of changes that no operator has marked as seen."""
        return self._record.unseen

    @property
    def left_out(self) -> int:
        """Number of changes that were dropped before an operator had seen them, since all were seen last."""
        return self._record.left_out

    def latest(self, limit: int, admits: Callable[[DefinitionChange], bool]) -> list[DefinitionChange]:
        """The latest changes that `admits` accepts, latest first."""
        return self._record.latest(limit, admits)

    def mark_seen(self, ids: Collection[int]) -> int:
        """Mark changes as seen; ids of others are ignored. Returns how many were not marked before."""
        marked = self._record.mark_seen(ids)
        if marked:
            logger.info("an operator has seen {}", count(marked, "change") + " of definitions")
            self._write_soon()
        return marked

    # -- the file ------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Compare what waits, as `Comparisons.close` does, and write the changes."""
        await self._comparisons.close()
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        if self._in_thread is not None:
            await asyncio.wait([self._in_thread])
        await self._write()

    def _write_soon(self) -> None:
        self._to_write = bool(self._file)
        if self._to_write and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self._write_later(), name="keep definition changes")

    async def _write_later(self) -> None:
        while self._to_write:
            await asyncio.sleep(DELAY)
            await self._write()

    async def _write(self) -> None:
        if self._to_write:
            self._to_write = False
            content = Content(VERSION, self._record.left_out, list(self._record.changes))
            self._in_thread = asyncio.create_task(asyncio.to_thread(self._file.write, content))
            await asyncio.shield(self._in_thread)


def _event(change: DefinitionChange, more: int) -> DefinitionsChanged:
    return DefinitionsChanged(
        seq=change.id,
        at=change.at,
        upstream=change.upstream,
        kind=change.kind,
        name=change.name,
        what=change.what,
        members=tuple(one.name for one in change.members),
        more=max(more, 0),
    )


def _members(change: DefinitionChange) -> str:
    """The members that differ, for the log."""
    names = [one.name for one in change.members[:MAX_LOGGED]]
    shown = [name if name.isascii() and name.isidentifier() else repr(name[:MAX_SHOWN]) for name in names]
    more = len(change.members) + change.more - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more else [])])
