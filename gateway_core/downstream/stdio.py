"""One agent on stdin and stdout, in either era: each message is one line (basic/transports/stdio).

While the two descriptors carry the protocol, the rest of the process gets replacements, so that stray output cannot
break it. Works on pipes, sockets, terminals and plain files.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from functools import partial
from typing import Final

from loguru import logger

from gateway_core.catalog.current import CurrentCatalog
from gateway_core.config import ProxyConfig
from gateway_core.downstream.agents import principal_of
from gateway_core.downstream.auth.caller import Caller, in_profile
from gateway_core.downstream.batch import decode_all
from gateway_core.downstream.duplex import Duplex, ModernRequests
from gateway_core.downstream.legacy import Legacy
from gateway_core.downstream.sessions.sessions import Sessions
from gateway_core.errors import INVALID_REQUEST, RpcError
from gateway_core.inline.driver import task_of
from gateway_core.internal_errors import internal_error, where
from gateway_core.mcp import jsonrpc

CALLER: Final = Caller("stdio")
WRITE_TIMEOUT: Final = 30.0
MAX_UNWRITTEN: Final = 256
"""Unwritten answers above which reading pauses."""
_CHUNK: Final = 64 * 1024

Read = Callable[[], Awaitable[bytes]]
Write = Callable[[bytes], Awaitable[None]]
Close = Callable[[], None]


class StdioServer:
    """Serves one agent on stdin and stdout until it closes its end."""

    def __init__(
        self,
        config: ProxyConfig,
        descriptors: tuple[int | None, int | None],
        *,
        catalog: CurrentCatalog,
        sessions: Sessions,
        legacy: Legacy,
        modern: ModernRequests,
        profile: str = "",
    ) -> None:
        """`descriptors`: those to use as stdin and stdout; None for those of the process. `profile`: of the agent."""
        self._config = config
        self._listen = catalog.listen
        self._visible = partial(catalog.changed_in, profile)
        self._sessions = sessions
        self._descriptors = descriptors
        caller = in_profile(CALLER, profile) if profile else CALLER
        self._session = sessions.open_unstored(caller, principal_of(b"", caller).id)
        self._channel = Duplex(self._session, legacy, modern)
        self._reading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until stdin ends or `stop` is called; then let calls in flight finish, within `drain_timeout`.

        Raises the exception of reading or writing, except when the agent has disconnected or does not read.
        """
        failures: list[Exception] = []
        with _claimed(*self._descriptors) as (stdin, stdout):
            write, close_writer = await _open_writer(stdout)
            read, close_reader = await _open_reader(stdin)
            loop = asyncio.get_running_loop()
            self._reading = loop.create_task(self._read(read))
            writing = loop.create_task(self._write(write))
            forget_changes = self._listen(lambda kinds, who: self._session.changed(self._visible(kinds), who))
            try:
                await asyncio.wait([self._reading, writing], return_when=asyncio.FIRST_COMPLETED)
                if not writing.done():
                    await self._finish(writing)
            finally:
                forget_changes()
                for task in (self._reading, writing):
                    task.cancel()
                for failed in await asyncio.gather(self._reading, writing, return_exceptions=True):
                    if isinstance(failed, Exception):
                        logger.error("{} while serving stdin and stdout\n{}", type(failed).__name__, where(failed))
                        failures.append(failed)
                self._channel.close()
                self._sessions.end_unstored(self._session)
                await self._sessions.wait_closed(1.0)
                close_reader()
                close_writer()
        if failures:
            raise failures[0]

    def use(self, config: ProxyConfig) -> None:
        """Apply another configuration to the messages that come from now on."""
        self._config = config

    def stop(self) -> None:
        """Stop reading; `run` then finishes the calls in flight and returns."""
        if self._reading is not None:
            self._reading.cancel()

    async def _finish(self, writing: asyncio.Task[None]) -> None:
        self._session.questions.end()  # reading has ended, so no answer can arrive
        calls = [task_of(call) for call in self._session.calls.values()]
        if calls:
            await asyncio.wait(calls, timeout=self._config.drain_timeout)
        self._channel.end_subscriptions()
        self._session.mailbox.close()
        await asyncio.wait([writing], timeout=WRITE_TIMEOUT)

    async def _read(self, read: Read) -> None:
        async with contextlib.aclosing(_lines(read, lambda: self._config.limits.request_body)) as lines:
            async for line in lines:
                if line is None:
                    limit = self._config.limits.request_body
                    problem = RpcError.of_gateway(INVALID_REQUEST, f"a line is longer than {limit} bytes")
                    self._channel.send(jsonrpc.error(None, problem))
                elif line.strip():
                    self._receive(line)
                del line  # free the line while waiting for the next one
                await self._session.mailbox.wait_room(MAX_UNWRITTEN)

    def _receive(self, line: bytes) -> None:
        try:
            messages = decode_all(line, self._session.agent)
        except RpcError as error:
            self._channel.send(jsonrpc.error(None, error))
        except Exception as error:  # noqa: BLE001 - a bad line must not end the channel
            logger.error("{} while reading a line\n{}", type(error).__name__, where(error))
            self._channel.send(jsonrpc.error(None, internal_error()))
        else:
            for message in messages:
                self._channel.receive(message)

    async def _write(self, write: Write) -> None:
        """Write messages in order; returns on disconnect, or when a write takes longer than `WRITE_TIMEOUT`."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while (message := await self._session.mailbox.get()) is not None:
                async with asyncio.timeout(WRITE_TIMEOUT):
                    await write(message + b"\n")


@contextlib.contextmanager
def _claimed(stdin: int | None, stdout: int | None) -> Iterator[tuple[int, int]]:
    """Descriptors for the protocol. Meanwhile the process's stdin is the null device and its stdout is stderr."""
    if stdin is not None and stdout is not None:
        yield stdin, stdout
        return
    blocking = (os.get_blocking(0), os.get_blocking(1))
    wires = (os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    try:
        yield wires[0] if stdin is None else stdin, wires[1] if stdout is None else stdout
    finally:
        for descriptor, wire in enumerate(wires):
            os.dup2(wire, descriptor)
            os.close(wire)
            os.set_blocking(descriptor, blocking[descriptor])


def _is_stream(descriptor: int) -> bool:
    """Whether the event loop can poll it; plain files and the null device are always ready."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


async def _open_reader(descriptor: int) -> tuple[Read, Close]:
    """A function that reads the next chunk, which is empty at the end, and a function that closes the reader."""
    loop = asyncio.get_running_loop()
    if not _is_stream(descriptor):
        return lambda: loop.run_in_executor(None, os.read, descriptor, _CHUNK), lambda: None
    stream = asyncio.StreamReader(limit=_CHUNK)
    own = os.fdopen(os.dup(descriptor), "rb", buffering=0)  # a copy, since the transport closes its descriptor
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), own)
    return lambda: stream.read(_CHUNK), transport.close


async def _open_writer(descriptor: int) -> tuple[Write, Close]:
    """A function that writes a whole message and waits until it is sent, and a function that closes the writer."""
    loop = asyncio.get_running_loop()
    if not _is_stream(descriptor):
        return lambda data: loop.run_in_executor(None, _write_all, descriptor, data), lambda: None
    own = os.fdopen(os.dup(descriptor), "wb", buffering=0)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, own)
    transport.set_write_buffer_limits(0)  # so that `drain` waits until all data is sent
    stream = asyncio.StreamWriter(transport, protocol, None, loop)

    async def write(data: bytes) -> None:
        stream.write(data)
        await stream.drain()

    return write, transport.abort


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


async def _lines(read: Read, limit: Callable[[], int]) -> AsyncGenerator[bytes | None, None]:
    """Yield lines without their line end; None for a line longer than `limit` says, in bytes, which is discarded.

    Keeps no reference to a yielded line while it waits for more data.
    """
    pending = bytearray()
    too_long = False
    while chunk := await read():
        *complete, rest = chunk.split(b"\n")
        del chunk
        for part in complete:
            if not too_long and len(pending) + len(part) <= limit():
                pending += part
                yield _taken(pending)
            else:
                yield None
            pending.clear()
            too_long = False
        del complete
        pending += rest
        if len(pending) > limit():
            too_long = True
            pending.clear()
    if pending or too_long:
        yield None if too_long else bytes(pending)


def _taken(pending: bytearray) -> bytes:
    """Empty `pending`; returns what it held."""
    line = bytes(pending)
    pending.clear()
    return line
