"""One server as a child process: started under a guard, watched, and ended with its process group.

The gateway starts `_guard.py`, which starts the server in a new process group and holds the other end of the
**lifeline**. When that closes, because `stop` shuts it down or the gateway died, the guard ends the group. The server
uses the pipes for stdin, stdout and stderr directly; the guard copies nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from gateway_core.config import UpstreamConfig
from gateway_core.errors import NotSent, Permanent
from gateway_core.limits.pace import Pace
from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.process.lifeline import Lifeline, kill
from gateway_core.upstream.process.stderr import StderrTail

INHERITED: Final = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
"""The only variables that a child inherits from the gateway; `env` adds others (threat: env leak)."""
WRITE_TIMEOUT: Final = 10.0
"""Seconds that a message may wait in the pipe, with no call in flight, before the server counts as stuck."""
STDIN_GRACE: Final = 2.0
"""Seconds that a server has to exit on its own after its stdin is closed (transports/stdio, Shutdown)."""
GUARD_GRACE: Final = 3.5
"""Seconds that the guard has to end the group: SIGTERM, two seconds, SIGKILL and reaping."""
HANGUP_GRACE: Final = 0.5
"""Seconds to wait after a pipe closes for an exit status, which is a better reason to report."""
FLUSH_GRACE: Final = 0.1
"""Seconds after an exit to read the rest of the pipes."""
FLUSH_MAX: Final = 5.0
"""The same while stdout is read in slices."""
STDERR_RATE: Final = 32 * 1024 * 1024
STDERR_BURST: Final = 32 * 1024 * 1024
"""Bytes per second, and at once, that are read from stderr."""
MAX_UNHEARD: Final = 1024 * 1024
"""Maximum bytes that a server may write before `hear` is called."""

_GUARD: Final = Path(__file__).with_name("_guard.py")


def environment(explicit: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """A child's environment. Exported shell functions (values that begin with `()`) are code, so they stay out."""
    kept = {key: inherited[key] for key in INHERITED if not inherited.get(key, "()").startswith("()")}
    return {**kept, **explicit}


class Child(asyncio.SubprocessProtocol):
    """A child process. Call `hear` to receive its output."""

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config
        self._on_output: Callable[[bytes], None] = self._keep
        self._on_end: Callable[[str], None] = lambda reason: None
        self._unheard = bytearray()
        self._reason = ""
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._lifeline = Lifeline()
        self._starting: asyncio.Future[Any] | None = None
        self._stderr = StderrTail(config.name, Concealer.of(config))
        self._stderr_pace = Pace(STDERR_RATE, STDERR_BURST)
        self._paused: set[int] = set()
        """The pipes that are not read."""
        self._open_pipes = {1, 2}
        self._exited = asyncio.Event()
        self._ended = False
        self.died = False
        """Whether the process exited on its own."""
        self._patience: Callable[[], float] = lambda: 0.0
        self._stall: asyncio.TimerHandle | None = None
        self.writable = asyncio.Event()
        """Set while no part of a message waits for the pipe, and permanently once the child has ended."""

    @property
    def ran(self) -> bool:
        """Whether the command started. Valid only after the child has ended."""
        return self._lifeline.ran

    @property
    def unrunnable(self) -> bool:
        """Whether the exit status of a shell or `env` says that its command does not exist or cannot be run."""
        return self._lifeline.unrunnable

    def hear(
        self,
        on_output: Callable[[bytes], None],
        on_end: Callable[[str], None],
        patience: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Set the callbacks: `on_output` for chunks of stdout, `on_end` once for the reason: `exited with status 1`.

        Earlier output is delivered first. `patience` returns the seconds for which calls in flight explain that the
        server does not read its stdin.
        """
        self._on_output, self._on_end, self._patience = on_output, on_end, patience
        unheard, self._unheard = bytes(self._unheard), bytearray()
        if unheard:
            on_output(unheard)
        if self._ended:
            on_end(self._reason)

    def _keep(self, data: bytes) -> None:
        self._unheard += data
        if len(self._unheard) > MAX_UNHEARD:
            self._unheard.clear()
            self._end("writes without being asked anything")

    async def start(self) -> None:
        """Start the process. Raises `NotSent` if that fails. `on_end` reports later failures."""
        command, cwd = self._config.command or "", self._config.cwd
        env = environment(self._config.env, os.environ)
        _check_startable(command, cwd, env)
        try:
            guards_end = self._lifeline.open()
        except OSError as error:
            raise NotSent(f"cannot start {command!r}: {error.strerror}") from None
        starting = self._starting = asyncio.ensure_future(
            asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                *(sys.executable, "-I", "-S", str(_GUARD), str(guards_end.fileno()), "--"),
                *(command, *self._config.args),
                env=env,
                cwd=cwd,
                pass_fds=(guards_end.fileno(),),
                start_new_session=True,
            )
        )
        starting.add_done_callback(lambda _: guards_end.close())
        try:
            # Cancelling it would kill the guard, which may just have started the server and could not end it.
            await asyncio.shield(starting)
        except (OSError, ValueError) as error:
            self._lifeline.close()
            raise NotSent(f"cannot start {command!r}: {error}") from None
        except asyncio.CancelledError:
            starting.add_done_callback(_ignore_failure)
            raise  # `stop` ends it
        if not self._ended:
            self.writable.set()

    @property
    def reads(self) -> bool:
        """Whether its stdin is open."""
        return self._stdin is not None and not self._stdin.is_closing()

    def write(self, line: bytes) -> None:
        """Write one complete line to stdin. Call only while `writable`; a remainder that does not fit clears it."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(line)

    async def stop(self, *, politely: bool = True) -> None:
        """End the process group: close stdin, then SIGTERM, then SIGKILL. Takes less than 6 seconds.

        `politely=False` sends SIGTERM at once; for a server that never got a message.
        """
        self._end("was stopped")
        if self._starting is None:
            return
        await asyncio.wait({self._starting})  # a process being started can be ended only after its start
        if self._transport is None:
            self._lifeline.close()
            return
        if self._stdin is not None:
            self._stdin.close()
        if not await self._exits_within(STDIN_GRACE if politely else 0.0):
            self._lifeline.let_go()
            if not await self._exits_within(GUARD_GRACE):
                kill(self._transport.get_pid())
                self._lifeline.guard_exited()
                await self._exits_within(FLUSH_GRACE)
        self._transport.close()
        self._lifeline.close()

    async def _exits_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        return self._exited.is_set()

    # asyncio.SubprocessProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)  # uvloop's transports have other bases
        self._stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        # uvloop: if the child has already exited, the pipe is closed. `process_exited` is still called.
        with contextlib.suppress(RuntimeError):
            self._stdin.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self._stderr.feed(data)
            if pause := self._stderr_pace.pause(len(data)):
                self.pause(2)
                asyncio.get_running_loop().call_later(pause, self.resume, 2)
        elif not self._ended:
            self._on_output(data)

    def pause(self, fd: int) -> None:
        """Read nothing more from stdout (1) or stderr (2) until `resume`; the pipe then stops the server."""
        pipe = self._readable(fd)
        if fd not in self._paused and pipe is not None:
            self._paused.add(fd)
            pipe.pause_reading()

    def resume(self, fd: int) -> None:
        """Read again; no effect unless the pipe is paused."""
        if fd in self._paused:
            self._paused.discard(fd)
            pipe = self._readable(fd)
            if pipe is not None:
                pipe.resume_reading()

    def _readable(self, fd: int) -> asyncio.ReadTransport | None:
        """The server's end of a pipe; None once it is closed."""
        if self._transport is None or fd not in self._open_pipes:
            return None
        pipe = cast(asyncio.ReadTransport, self._transport.get_pipe_transport(fd))
        return None if pipe is None or pipe.is_closing() else pipe

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open_pipes.discard(fd)
        if self._exited.is_set():
            if not self._open_pipes:
                self._end_as_reported()
        elif fd != 2:
            what = "closed its stdin" if fd == 0 else "closed its stdout"
            asyncio.get_running_loop().call_later(HANGUP_GRACE, self._end, what)

    def process_exited(self) -> None:
        # The guard has exited, and normally the group too. The pipes may still hold the server's last output. A
        # grandchild in another group may keep them open indefinitely.
        self._exited.set()
        self._lifeline.guard_exited()
        if self._open_pipes:
            asyncio.get_running_loop().call_later(FLUSH_GRACE, self._flush)
        else:
            self._end_as_reported()

    def _flush(self, left: float = FLUSH_MAX) -> None:
        """End, unless stdout is paused: then its content must be read first."""
        if 1 in self._paused and left > 0:
            asyncio.get_running_loop().call_later(FLUSH_GRACE, self._flush, left - FLUSH_GRACE)
        else:
            self._end_as_reported()

    def pause_writing(self) -> None:
        self.writable.clear()
        self._stall = asyncio.get_running_loop().call_later(WRITE_TIMEOUT, self._stalled)

    def _stalled(self) -> None:
        patience = self._patience()
        if patience > 0:
            self._stall = asyncio.get_running_loop().call_later(patience, self._stalled)
        else:
            self._end("does not read its stdin")

    def resume_writing(self) -> None:
        self._stop_stall_clock()
        self.writable.set()

    # Ending

    def _end(self, reason: str) -> None:
        if self._ended:
            return
        self._ended = True
        self.died = self._exited.is_set()
        self._reason = reason
        self._stop_stall_clock()
        self.writable.set()  # wake writers, so that they see the end
        self._on_end(reason)

    def _end_as_reported(self) -> None:
        self._end(self._lifeline.how_it_ended(self._config.command or ""))

    def _stop_stall_clock(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    @property
    def last_words(self) -> str:
        """The last line on stderr, with configured secrets hidden; empty if there is none."""
        return self._stderr.last

    @property
    def last_lines(self) -> list[str]:
        """The last lines on stderr, with configured secrets hidden, oldest first."""
        return self._stderr.lines


def _check_startable(command: str, cwd: str | None, env: Mapping[str, str]) -> None:
    """Raise `Permanent` if `cwd` or the command is missing; the system's error would not say which one."""
    if cwd is not None and not os.path.isdir(cwd):
        raise Permanent(f"cannot start {command!r}: its working directory {cwd!r} does not exist")
    path, is_path = env.get("PATH", os.defpath), os.sep in command
    if shutil.which(os.path.join(cwd or "", command) if is_path else command, path=path) is None:
        where = "no such executable file" if is_path else f"command not found in PATH={path}"
        program, *rest = command.split() or [command]
        split = rest and shutil.which(program, path=path)
        hint = "; command is one program; put the rest into args" if split else ""
        raise Permanent(f"cannot start {command!r}: {where}{hint}")


def _ignore_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
