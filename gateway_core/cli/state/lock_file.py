"""A file that a process locks while it runs, and what the system says about the lock.

An exclusive `flock` ends with the process that holds it, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from pathlib import Path

from gateway_core.cli.state.folder import ADVICE
from gateway_core.errors import GatewayError


def open_file(path: Path, flags: int) -> int:
    """Open a pid file. Raises `FileNotFoundError` if it is missing and `flags` lack O_CREAT, else `GatewayError`.

    With O_CREAT it must not be another user's, who would read the tokens in it.
    """
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not flags & os.O_CREAT:
            raise
        known = {errno.ELOOP: "it is a symbolic link", errno.EISDIR: "it is no ordinary file"}
        reason = known.get(error.errno or 0, error.strerror)
        advice = f"\n{ADVICE}" if error.errno in (errno.EACCES, errno.EROFS, errno.ENOENT) else ""
        raise GatewayError(f"cannot use the pid file {path}: {reason}{advice}") from error
    status = os.fstat(fd)
    reason = "" if stat.S_ISREG(status.st_mode) else "it is no ordinary file"
    if flags & os.O_CREAT and status.st_uid not in (0, os.geteuid()):
        reason = f"it belongs to another user; remove it\n{ADVICE}"
    if reason:
        os.close(fd)
        raise GatewayError(f"cannot use the pid file {path}: {reason}")
    return fd


def is_believable(path: Path, fd: int) -> bool:
    """Whether what the open file `fd` says can be believed: it is this user's, root's, or that of its folder's owner.

    In a folder that several users share, another one could lead commands, and their credentials, to a port of its own.
    """
    return os.fstat(fd).st_uid in {0, os.geteuid(), path.parent.stat().st_uid}


def try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(path: Path, fd: int) -> bool:
    """Whether `path` still names the open file `fd`."""
    try:
        there = path.stat(follow_symlinks=False)
    except OSError:
        return False
    ours = os.fstat(fd)
    return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)


def namespace() -> str:
    """The namespace of this process's pid; empty where the system has none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def holders_of(inode: int) -> set[int]:
    """The pids that hold an exclusive flock on this inode number, on any device; empty without `/proc/locks`."""
    try:
        table = Path("/proc/locks").read_text()
    except OSError:
        return set()
    return {int(pid) for pid in re.findall(rf"FLOCK\s+ADVISORY\s+WRITE\s+(\d+)\s+\S+:{inode}\s", table)}
