"""The configuration file of a running gateway: read again for a reload, and watched for changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from gateway_core.cli.serving import port
from gateway_core.cli.serving.launch import Launch, Version, version_of
from gateway_core.cli.serving.restart import read, rehearse
from gateway_core.concealing import HeldSecrets
from gateway_core.config import Config
from gateway_core.errors import ConfigError, FileProblem, ReloadRefused
from gateway_core.log import output

SETTLE: Final = 200
"""Milliseconds without a change after which a watched file is read: editors write a file in several steps."""
LOOK: Final = 1000
"""Milliseconds between two looks at a watched file."""
LINK: Final = "..data"
"""The link that Kubernetes replaces when the files of a volume change."""


class Log:
    """Where this process writes its log: what the file says, or what the start says in its place."""

    def __init__(self, held: HeldSecrets, *, to_terminal: bool, fallback: str | None) -> None:
        """`to_terminal`: see `output.setup`. `fallback`: the file if the configuration names none; None: stderr."""
        self._held = held
        self._to_terminal = to_terminal
        self._fallback = fallback

    def set_up(self, config: Config) -> None:
        """See `output.setup`."""
        output.setup(self._settings(config), to_terminal=self._to_terminal, held=self._held)

    def targets(self, config: Config) -> output.Targets:
        """See `output.Targets`."""
        return output.Targets(self._settings(config), to_terminal=self._to_terminal, held=self._held)

    def file(self, config: Config) -> str:
        """The log file; empty for stderr."""
        return config.proxy.log.file or self._fallback or ""

    def _settings(self, config: Config) -> output.LogSettings:
        log = config.proxy.log
        return log if log.file is not None else log.model_copy(update={"file": self._fallback})


class FileSource:
    """Implements `Source`. Values from the command line keep their effect across reloads."""

    def __init__(
        self,
        launch: Launch,
        config: Config,
        log: Log,
        applied: Callable[[Config], None],
        restart: Callable[[], None] | None = None,
    ) -> None:
        """`config`: the configuration in force. `applied` is called with another one that has come into force.

        `restart` begins to restart the process; None if it cannot.
        """
        self._launch = launch
        self._config = config
        self._log = log
        self._applied = applied
        self._restart = restart
        self.version: Version = launch.version
        """The version of the file that was read or written last."""

    @property
    def path(self) -> Path:
        return self._launch.path

    def read(self) -> Config:
        self.version = version_of(self.path)
        return read(self._launch)

    def check(self, text: str) -> Config:
        return read(self._launch, text)

    def replaced(self, by: Path) -> None:
        self.version = version_of(by)

    def prepare(self, config: Config) -> PreparedProcess:
        targets = None
        if config.proxy.log != self._config.proxy.log:
            try:
                targets = self._log.targets(config)
            except OSError as error:
                what = f"cannot be opened: {error.strerror}"
                raise ConfigError([FileProblem(str(self._launch.path), None, "mcp.proxy.log.file", what)]) from None
        return PreparedProcess(targets, lambda: self._use(config))

    async def rehearse(self) -> None:
        if self._restart is None:
            raise ReloadRefused("this gateway ends with its agent on stdin and stdout, and cannot restart before")
        await rehearse(self._launch)
        await asyncio.to_thread(self._check_process)

    def _check_process(self) -> None:
        """Check what only this process can: the addresses and the log. Raises `ConfigError`."""
        config = read(self._launch)
        if config.proxy.log != self._config.proxy.log:
            self.prepare(config).discard()
        now, before = config.proxy, self._config.proxy
        wanted = [
            ("mcp.proxy.port", (now.host, now.port), (before.host, before.port)),
            (
                "mcp.proxy.control.port",
                (now.control.host, now.control.port),
                (before.control.host, before.control.port),
            ),
        ]
        for key, address, held in wanted:
            try:
                if address != held and address[1]:
                    port.check(*address)
            except OSError as error:
                what = f"cannot be used: {error.strerror}"
                raise ConfigError([FileProblem(str(self._launch.path), None, key, what)]) from None

    def restart(self) -> None:
        if self._restart is not None:
            self._restart()

    def _use(self, config: Config) -> None:
        self._config = config
        self._applied(config)


class PreparedProcess:
    """Implements `Prepared`: the targets of the log, if they change, and what the process publishes."""

    def __init__(self, targets: output.Targets | None, applied: Callable[[], None]) -> None:
        self._targets = targets
        self._applied = applied

    def apply(self) -> None:
        if self._targets is not None:
            # In a thread, because a stalled disk or terminal would hold up all calls.
            threading.Thread(target=self._targets.use(), name="end-log", daemon=True).start()
        self._applied()

    def discard(self) -> None:
        if self._targets is not None:
            self._targets.discard()


async def changes_of(source: FileSource) -> AsyncIterator[None]:
    """Yield whenever the file has a version that the gateway has not read, and is complete, until cancelled.

    Without notice from the system, a look each second finds a change.
    """
    from watchfiles import awatch  # noqa: PLC0415 - only a watched file needs it

    def is_of_file(_change: object, changed: str) -> bool:
        return Path(changed).name in {path.name, LINK}

    path, ended = source.path, asyncio.Event()
    yielded = last = source.version
    watching = awatch(
        path.parent,
        watch_filter=is_of_file,
        debounce=5 * SETTLE,
        step=SETTLE,
        stop_event=ended,
        recursive=False,
        rust_timeout=LOOK,
        yield_on_timeout=True,
    )
    try:
        async for noticed in watching:
            version = version_of(path)
            is_new = version is not None and version not in (yielded, source.version)
            if is_new and (noticed or version == last):
                yielded = version
                yield
            last = version
    finally:
        ended.set()
