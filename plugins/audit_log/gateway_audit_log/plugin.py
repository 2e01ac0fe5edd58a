"""Record every call and every authentication in a file whose entries are chained by hashes.

`observe` only queues what ended; a thread makes the entries and writes them. With `on_failure = "refuse"`,
`before_call` refuses calls while they cannot be written.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Iterator
from typing import Final, Self

from loguru import logger

from gateway_audit_log import writer as writing
from gateway_audit_log.chaining import keys_of
from gateway_audit_log.entries import Entries
from gateway_audit_log.settings import Settings
from gateway_audit_log.writer import Source, Writer
from gateway_core import AuthenticationEnded, Call, CallEnded, Event, Known, Note, Plugin, Reject, hookimpl

_DIGEST_KEY: Final = secrets.token_bytes(32)
"""The key of digests without a key file: that of this process, which no file has."""
_numbers: Final = itertools.count(1)
"""Those of the sources of this process."""


class AuditLog(Plugin[Settings]):
    """Writes the record of calls and authentications."""

    methods = frozenset(
        {"tools/call", "prompts/get", "resources/read", "resources/subscribe", "completion/complete"}
        | {"tasks/get", "tasks/update", "tasks/cancel"}
    )
    """Those that `before_call` refuses while entries cannot be written."""

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        if config.on_failure == "continue":
            self.methods = frozenset()
        self._keys = keys_of(config.key_file, _DIGEST_KEY)
        self._source = Source(next(_numbers), config, Entries(config, self._keys).of)
        self._waits = config.sync == "each"
        self._writer: Writer | None = None

    def notes(self, known: Known) -> Iterator[Note]:
        """Globs of `payloads` that match nothing."""
        yield from known.about_calls(self.config.payloads, "payloads")

    async def __aenter__(self) -> Self:
        self._writer = await asyncio.to_thread(writing.acquire, self._source, self._keys)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is None:
            return
        if not await asyncio.to_thread(writing.release, self.config):
            logger.error("audit_log: the end of {} could not be written in time", self.config.file)

    @hookimpl
    def before_call(self, call: Call) -> Reject | None:
        writer = self._writer
        if writer is None or (not writer.problem and not writer.is_full):
            return None
        return Reject("the audit log cannot be written, so calls are refused", retry_after=5.0, rule="on_failure")

    @hookimpl
    def observe(self, event: Event) -> Awaitable[None] | None:
        writer = self._writer
        if writer is None:
            return None
        size = 0
        if event.__class__ is CallEnded:
            call = event.call
            size = len(event.result.raw) + (0 if call is None else len(call.raw_arguments))
        elif event.__class__ is not AuthenticationEnded:
            return None
        if not self._waits:
            writer.put(event, self._source, size)
            return None
        done = asyncio.get_running_loop().create_future()
        writer.put(event, self._source, size, done)
        return done

    @property
    def warnings(self) -> list[str]:
        """What is wrong at present, for `status`."""
        writer = self._writer
        if writer is None:
            return []
        found = []
        if writer.problem:
            then = "calls are refused" if self.config.on_failure == "refuse" else "calls are served without"
            found.append(
                f"entries cannot be written to {self.config.file}: {writer.problem}; {then}; "
                f"{writer.waiting} wait in memory"
            )
        if writer.lost:
            found.append(f"{writer.lost} entries were lost since the start; the file says where")
        return found
