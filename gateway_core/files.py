"""Files that the gateway reads and keeps: used only if they are not others' files; replaced atomically, or appended to.

`Rule` is what a file must fulfil, by what it holds:

| rule | the file holds | owner | its group may | all others may |
| --- | --- | --- | --- | --- |
| `SECRET` | keys, sessions, records | this user or root | nothing | nothing |
| `OWN` | what the gateway acts by: the configuration, names, last known lists | this user or root | read | read |
| `PUBLIC` | whom the gateway trusts: keys and authorities that are no secrets | any | read and write | read |

Files that operators provide are used in any case if `TRUST_VARIABLE` is `1`, as in a container; those that the gateway
writes itself are not.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import os
import shlex
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

TRUST_VARIABLE: Final = "RADIUM_TRUST_CONFIG"
"""Environment variable; `1` accepts files of operators whatever their owners and modes are."""
CHECKSUM_SIZE: Final = 65
"""Bytes that `with_checksum` adds."""


class Rule(enum.Enum):
    """What owner and mode of a file must be; see above."""

    SECRET = enum.auto()
    OWN = enum.auto()
    PUBLIC = enum.auto()


_RULES: Final = {
    Rule.SECRET: (0o077, "others may read it", "600"),
    Rule.OWN: (0o022, "others may write to it", "go-w"),
    Rule.PUBLIC: (0o002, "every user of this machine may write to it", "o-w"),
}
"""Forbidden rights, what is wrong with a file that grants one, and the argument of `chmod` that removes them."""


class Unusable(Exception):
    """Why a file is not used, as the end of a sentence: `it is damaged`. The text contains no secrets."""

    def __init__(self, reason: str, *, replaceable: bool = False) -> None:
        """`replaceable`: the content is lost in any case, so that a new file may take its place."""
        super().__init__(reason)
        self.replaceable = replaceable


def check(
    path: Path,
    status: os.stat_result,
    rule: Rule,
    *,
    provided: bool = False,
    env: Mapping[str, str] = os.environ,
    why: str = "",
) -> None:
    """Raise `Unusable` for a file whose owner or mode `rule` forbids.

    `provided`: by an operator, so that `TRUST_VARIABLE` in `env` counts. `why`: more of what is wrong.
    """
    if os.name != "posix" or (provided and env.get(TRUST_VARIABLE) == "1"):
        return
    forbidden, what, mode = _RULES[rule]
    advice = ""
    if status.st_mode & forbidden:
        advice = f"; run: chmod {mode} {shlex.quote(str(path))}"
    elif rule is not Rule.PUBLIC and status.st_uid not in (0, os.geteuid()):
        what = "it belongs to another user"
    else:
        return
    hint = f"; where that is intended, as in a container: {TRUST_VARIABLE}=1" if provided else ""
    raise Unusable(f"{what}{why}{advice}{hint}")


def check_secret(path: Path, status: os.stat_result) -> None:
    """Raise `Unusable` for a file of an operator, with keys or hashes of keys, on which others have rights."""
    check(path, status, Rule.SECRET, provided=True)


def check_public(path: Path, status: os.stat_result) -> None:
    """Raise `Unusable` for a file of an operator, with public keys, to which every user of this machine may write."""
    check(path, status, Rule.PUBLIC, provided=True)


def opened(path: str | Path) -> BinaryIO:
    """An ordinary file, open to be read. Raises `Unusable` for anything else, and `OSError`.

    It never waits: to open a named pipe would wait for a writer, and nothing could end that.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Unusable("it is no ordinary file")
    return file


def read(path: Path, limit: int, *, private: bool = False, provided: bool = False) -> bytes:
    """The content of an ordinary file of this user. Raises `FileNotFoundError` and `Unusable`.

    `private`: others must not be able to read it either. `provided`: as in `check`; such a file may be a symbolic link,
    as in a mounted Secret of Kubernetes. A file of more than `limit` bytes counts as damaged.
    """
    follow = 0 if provided else os.O_NOFOLLOW
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | follow)
        try:
            _check(os.fstat(descriptor), path, private=private, provided=provided)
            data = _data(descriptor, limit + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unusable("it is a symbolic link" if error.errno == errno.ELOOP else str(error.strerror)) from None
    if len(data) > limit:
        raise Unusable("it is damaged", replaceable=True)
    return data


def read_private(path: Path, limit: int) -> bytes:
    """The content of a file that only this user can read. Raises `FileNotFoundError` and `Unusable`."""
    return read(path, limit, private=True)


def read_secret(path: Path, limit: int) -> bytes:
    """The content of an operator's file that only this user can read, as of a key; raises as `read_private`."""
    return read(path, limit, private=True, provided=True)


def with_checksum(body: bytes) -> bytes:
    """The content of a file that shows whether it is damaged: a line of `CHECKSUM_SIZE` bytes, and `body`."""
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def without_checksum(data: bytes) -> bytes:
    """The body in what `with_checksum` made. Raises `Unusable` if it is damaged."""
    body = data[CHECKSUM_SIZE:]
    if data[:CHECKSUM_SIZE] != with_checksum(body)[:CHECKSUM_SIZE]:
        raise Unusable("it is damaged")
    return body


def check_folder(path: Path) -> None:
    """Raise `Unusable` for a folder whose entries are not for this user alone to change; and `FileNotFoundError`.

    A symbolic link of another user could lead to any folder of this user.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unusable(str(error.strerror)) from None
    if stat.S_ISLNK(status.st_mode):
        raise Unusable("it is a symbolic link")
    if not stat.S_ISDIR(status.st_mode):
        raise Unusable("it is no folder")
    check(path, status, Rule.OWN)


def open_private(path: Path) -> int:
    """Open an ordinary file that only this user can read or write, to read and append; create it if it is missing.

    Raises `Unusable` for a file that others can read, a link, and a file that is not an ordinary one; and `OSError`.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Unusable("it is a symbolic link") from None
        raise
    try:
        _check(os.fstat(descriptor), path, private=True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result, path: Path, *, private: bool, provided: bool = False) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unusable("it is no ordinary file")
    check(path, status, Rule.SECRET if private else Rule.OWN, provided=provided)


def _data(descriptor: int, limit: int) -> bytes:
    pieces: list[bytes] = []
    while limit and (piece := os.read(descriptor, limit)):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def replace(path: Path, data: bytes) -> None:
    """Replace a file by one of mode 0600, atomically: a crash leaves the old one. Raises `OSError`."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def append_to(path: Path) -> int:
    """Open a file to append to it; a new one has mode 0600. Returns the descriptor. Raises `OSError`.

    Where several users may create files, the name can be taken: neither a file nor a link of another user is used.
    A named pipe that no process reads is an error: to open it would wait for a reader.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        _refuse_foreign(path, os.lstat(path))
        descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):  # a terminal or pipe may be of any user
            _refuse_foreign(path, status)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_foreign(path: Path, status: os.stat_result) -> None:
    """Raise `OSError` for a file that belongs neither to this user nor to root."""
    if status.st_uid not in (0, os.geteuid()):
        raise OSError(f"{path} belongs to another user; remove it")
