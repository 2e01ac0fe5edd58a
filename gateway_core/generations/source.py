"""Where a reload takes its configuration from, and the parts of it that belong to the process, not to the gateway."""

from __future__ import annotations

from typing import Protocol

from gateway_core.config import Config


class Prepared(Protocol):
    """Parts of the process that are ready for another configuration, such as a log file that was opened."""

    def apply(self) -> None:
        """Use them from now on. Must not fail."""

    def discard(self) -> None:
        """Close them unused."""


class Source(Protocol):
    """The file of the configuration, as the command that runs the gateway reads it."""

    def read(self) -> Config:
        """Read and check the file; may block. Raises `ConfigError` with every problem."""

    def prepare(self, config: Config) -> Prepared:
        """Prepare the process for a configuration; may block. Raises `ConfigError` if it cannot be."""

    async def rehearse(self) -> None:
        """Check that a new process could start by the file. Raises `ConfigError`, or `ReloadRefused`."""

    def restart(self) -> None:
        """Begin the restart."""
