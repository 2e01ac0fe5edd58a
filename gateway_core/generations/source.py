"""Where a reload takes its configuration from, and the parts of it that belong to the process, not to the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from gateway_core.config import Config


class Prepared(Protocol):
    """Parts of the process that are ready for another configuration, such as a log file that was opened."""

    def apply(self) -> None:
        """Use them from now on. Must not fail."""

    def discard(self) -> None:
        """Close them unused."""


class Content(Protocol):
    """What one reload puts in force: the content of the file, or a text that takes its place."""

    def read(self) -> Config:
        """Read and check it; may block. Raises `ConfigError` with every problem."""

    def prepare(self, config: Config) -> Prepared:
        """Prepare the process for a configuration; may block. Raises `ConfigError` if it cannot be."""


class Source(Content, Protocol):
    """The file of the configuration, as the command that runs the gateway reads it."""

    @property
    def path(self) -> Path:
        """The file."""

    def check(self, text: str) -> Config:
        """Check a text as the content of the file. Raises as `read`."""

    def replaced(self, by: Path) -> None:
        """Note that the gateway puts another file in the place of the file, so that it is not read for that reason."""

    async def rehearse(self) -> None:
        """Check that a new process could start by the file. Raises `ConfigError`, or `ReloadRefused`."""

    def restart(self) -> None:
        """Begin the restart."""
