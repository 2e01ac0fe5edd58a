"""The file that keeps the changes of definitions across restarts.

The file has mode 0600, is bounded, and carries a version and a checksum. The gateway ignores a file that is damaged or
that others may use, and works without one that it cannot write; it logs one warning for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from loguru import logger

from gateway_core import files
from gateway_core.activity.definitions.changes import MAX_BYTES, MAX_CHANGES, DefinitionChange
from gateway_core.files import Unusable

VERSION: Final = 1
"""Version of the file's contents; incremented when a field changes."""
MAX_FILE: Final = MAX_BYTES + 64 * 1024
"""Maximum size of the file in bytes."""


class Content(msgspec.Struct, forbid_unknown_fields=True):
    """What the file holds."""

    version: int
    left_out: int
    changes: list[DefinitionChange]


_DECODER: Final = msgspec.json.Decoder(Content)


class ChangesFile:
    """The file of one configuration."""

    def __init__(self, path: Path | None) -> None:
        """Without `path`, nothing is kept."""
        self._path = path
        self._failed = False
        """Whether the last write failed."""

    def __bool__(self) -> bool:
        return self._path is not None

    def read(self) -> Content:
        """What the file holds; nothing if it is missing or not usable."""
        nothing = Content(VERSION, 0, [])
        if self._path is None:
            return nothing
        try:
            return _content(self._path)
        except FileNotFoundError:
            return nothing
        except Unusable as problem:
            logger.warning("{} is ignored: {}; earlier changes of definitions are not shown", self._path, problem)
            return nothing

    def write(self, content: Content) -> None:
        """Replace the file. A failure is logged."""
        assert self._path is not None
        body = msgspec.json.encode(content)
        try:
            files.replace(self._path, files.with_checksum(body))
        except OSError as error:
            if not self._failed:
                logger.warning(
                    "{} cannot be written ({}): changes of definitions are not kept across restarts",
                    self._path,
                    error.strerror,
                )
            self._failed = True
        else:
            self._failed = False


def _content(path: Path) -> Content:
    body = files.without_checksum(files.read_private(path, MAX_FILE))
    try:
        content = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise Unusable("another version of the gateway wrote it") from None
    if content.version != VERSION or len(content.changes) > MAX_CHANGES:
        raise Unusable("another version of the gateway wrote it")
    return content
