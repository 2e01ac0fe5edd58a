"""The configuration file on the disk: its versions, whether it can be replaced, and its replacement."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from gateway_core.config.loader import read_file
from gateway_core.errors import ConfigError, EditRefused, OutdatedEdit
from gateway_core.supervised import run_all, uninterrupted

_MARK: Final = "\ufeff".encode()
"""The byte order mark, which some editors write."""
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY, errno.EXDEV})
"""Errors of a file that cannot be replaced; EBUSY: it is mounted by itself, as into a container."""


def version_of(content: bytes) -> str:
    """A digest that tells contents apart."""
    return hashlib.sha256(content).hexdigest()


def unwritable(path: Path) -> str:
    """Why a file cannot be replaced, as the end of a sentence; empty if nothing is known against it."""
    target = Path(os.path.realpath(path))
    try:
        status = target.stat()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if not status.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(target, os.W_OK):
        return "it is read-only"
    if not os.access(target.parent, os.W_OK | os.X_OK):
        return "its folder is read-only"
    return ""


class Draft:
    """A new content of the file, which takes its place. Everything but `save` blocks."""

    def __init__(self, path: Path, content: bytes, over: str, replaced: Callable[[Path], None]) -> None:
        """`over`: the version that `content` may replace. Symbolic links are followed.

        `replaced` is called with the new file beside the old one before it takes its place. Raises `EditRefused` for a
        file that cannot be replaced.
        """
        self._replaced = replaced
        self._path = path
        self._target = Path(os.path.realpath(path))
        self._over = over
        if reason := unwritable(path):
            raise EditRefused(f"{path} cannot be changed: {reason}")
        before = read_file(path)
        self._before = before
        if before.startswith(_MARK):
            content = _MARK + content
        self._content = content
        self.version: Final = version_of(content)
        self._temporary: str | None = None
        """The new file beside the old one."""
        self._is_in_place = False

    def _written(self, content: bytes) -> str:
        """Write a file beside the old one, with its mode and owner. Raises `EditRefused` and `OSError`."""
        try:
            status = self._target.stat()
            descriptor, temporary = tempfile.mkstemp(dir=self._target.parent, prefix=f".{self._target.name}.")
        except OSError as error:
            raise self._refused(error) from None
        try:
            with open(descriptor, "wb") as file:
                made = os.fstat(descriptor)
                if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid):
                    os.fchown(descriptor, status.st_uid, status.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            _removed(temporary)
            raise self._refused(error) from None
        except BaseException:
            _removed(temporary)
            raise
        return temporary

    async def save(self) -> None:
        """Replace the file. Raises `OutdatedEdit` if it has another version by now, `EditRefused`, and `OSError`.

        The file is as before if this raises, also when it is cancelled.
        """
        try:
            await uninterrupted(asyncio.to_thread(self._commit))  # a thread is not cancelled
        except BaseException:
            await run_all(f"putting the old content of {self._path} back", partial(asyncio.to_thread, self._undo))
            raise

    def _commit(self) -> None:
        self._check_version()  # before `_written`, for which a file that is gone is an error of the system
        self._temporary = self._written(self._content)
        self._check_version()
        self._replaced(Path(self._temporary))
        try:
            os.replace(self._temporary, self._target)
        except OSError as error:
            raise self._refused(error) from None
        self._temporary, self._is_in_place = None, True
        with contextlib.suppress(OSError):  # the content is safe; only a crash right now could bring the old one back
            folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _check_version(self) -> None:
        try:
            present = version_of(read_file(self._path))
        except ConfigError:
            present = ""
        if present != self._over:
            raise OutdatedEdit()

    def _undo(self) -> None:
        """Put the old content back if it was replaced and no other has written since."""
        if self._is_in_place and version_of(read_file(self._path)) == self.version:
            self._temporary = self._written(self._before)
            self._replaced(Path(self._temporary))
            os.replace(self._temporary, self._target)
        elif self._temporary is not None:
            _removed(self._temporary)
        self._temporary = None

    def _refused(self, error: OSError) -> Exception:
        if error.errno in _READ_ONLY:
            return EditRefused(f"{self._path} cannot be changed: {error.strerror}")
        return error


def _removed(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
