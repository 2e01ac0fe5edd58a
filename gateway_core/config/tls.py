"""The table `tls` of an upstream and its TLS context, and what `server_tls.py` shares: files and their renewal."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import Field

from gateway_core.config.fields import Filled
from gateway_core.config.sections import Section
from gateway_core.files import Unusable, check_public, opened

if TYPE_CHECKING:
    import ssl

_WRONG_KEY: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
_UNUSABLE: Final = {
    "EE_KEY_TOO_SMALL": "the key of the certificate is too short to be secure",
    "CA_KEY_TOO_SMALL": "the key of a certificate in the chain is too short to be secure",
    "CA_MD_TOO_WEAK": "a certificate in the chain is signed with an algorithm that is no longer secure",
}
"""Why a certificate cannot be used, by OpenSSL's reasons."""


class TlsFileError(Exception):
    """A file of the table cannot be used. `key` names its key, and the text says why."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


class TlsFiles(Section):
    """The files of a table `tls`."""

    @property
    def files(self) -> Iterator[tuple[str, str]]:
        """The keys that name files, with their paths."""
        for key in self.file_names:
            path = getattr(self, key)
            if path is not None:
                yield key, path

    @property
    def state(self) -> tuple[object, ...]:
        """A value that differs when a file has changed."""
        return tuple(_state_of(path) for _, path in self.files)

    @property
    def exposed_key(self) -> tuple[str, str] | None:
        """The key and the path of the file with the private key, if every user of the machine may read it."""
        files = dict(self.files)
        key = "key" if "key" in files else "cert"
        try:
            readable = key in files and os.stat(files[key]).st_mode & stat.S_IROTH
        except OSError:
            return None
        return (key, files[key]) if readable else None


class TlsConfig(TlsFiles):
    """TLS to an upstream. Relative paths start at the configuration file's folder."""

    file_names = ("ca", "cert", "key")

    ca: Filled | None = Field(
        default=None,
        description="PEM file with the certificates to trust instead of the system's: of an authority, or of "
        "the server itself.",
        examples=["company-ca.pem"],
    )
    cert: Filled | None = Field(
        default=None,
        description="PEM file with the client certificate of the gateway, and its chain.",
        examples=["gateway.pem"],
    )
    key: Filled | None = Field(
        default=None,
        description="PEM file with the key of `cert`, without a passphrase. Without it, `cert` holds the key as well.",
        examples=["gateway-key.pem"],
    )
    verify: bool = Field(
        default=True,
        description="`false` accepts any certificate, so an attacker on the way can read and change everything. "
        "Only for tests.",
    )


def context_of(tls: TlsConfig, *, with_system: bool = False) -> ssl.SSLContext:
    """The TLS context that the table of an upstream describes. Reads its files. Raises `TlsFileError`.

    `with_system`: trust the certificates of the system besides `ca`.
    """
    import ssl  # noqa: PLC0415 - only upstreams with https need it

    check_readable(tls)
    if tls.ca is not None:
        check_authorities("ca", tls.ca)
    try:
        context = ssl.create_default_context(cafile=None if with_system else tls.ca)
        if with_system and tls.ca is not None:
            context.load_verify_locations(tls.ca)
    except (ssl.SSLError, ValueError):
        raise TlsFileError("ca", "holds no certificate in PEM") from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert is not None:
        load_certificate(context, tls.cert, tls.key)
    return context


def check_readable(tls: TlsFiles) -> None:
    """Raise `TlsFileError` for a file of the table that cannot be read."""
    for key, path in tls.files:
        try:
            with opened(path) as file:
                file.read(1)
        except Unusable as problem:
            raise TlsFileError(key, str(problem)) from None
        except OSError as error:
            raise TlsFileError(key, f"cannot be read: {error.strerror}") from None


def check_authorities(key: str, path: str) -> None:
    """Raise `TlsFileError` for a file of trusted authorities that every user of this machine may write to."""
    try:
        check_public(Path(path), os.stat(path))
    except Unusable as problem:
        raise TlsFileError(key, str(problem)) from None
    except OSError as error:
        raise TlsFileError(key, f"cannot be read: {error.strerror}") from None


def load_certificate(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Load the certificate that the context shows, with its key. Raises `TlsFileError`."""
    import ssl  # noqa: PLC0415

    try:
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except TlsFileError as problem:
        raise TlsFileError("cert" if key is None else "key", str(problem)) from None
    except (ssl.SSLError, ValueError) as error:
        reason, holder = getattr(error, "reason", None) or "", "cert" if key is None else "key"
        if reason in _WRONG_KEY:
            raise TlsFileError(holder, "the key does not belong to the certificate") from None
        if reason in _UNUSABLE:
            raise TlsFileError("cert", _UNUSABLE[reason]) from None
        if not _holds_certificate(cert):
            raise TlsFileError("cert", "holds no certificate in PEM") from None
        hint = "; name the file of the key in key" if key is None else ""
        raise TlsFileError(holder, f"holds no private key in PEM{hint}") from None


def _holds_certificate(path: str) -> bool:
    import ssl  # noqa: PLC0415

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _no_passphrase() -> str:
    """Called for an encrypted key. Without it, OpenSSL would ask on the terminal."""
    raise TlsFileError("key", "is encrypted with a passphrase; write it without one, readable by the gateway alone")


class RenewedContext:
    """A TLS context that is made again when its files change, as renewed certificates do.

    The system's certificates count as files of a context that trusts them.

    While the changed files cannot be used, for example because only one of two is replaced yet, the last context stays.
    Reading the certificates of the system takes tens of milliseconds, so an event loop calls `current` in a thread
    unless there is a context for `unchanged` files. Threads may call `current` at the same time.
    """

    def __init__(self, tls: TlsFiles, make: Callable[[], ssl.SSLContext], *, with_system: bool = False) -> None:
        """`make`: reads the files; may raise `TlsFileError`. `with_system`: it also reads the system's certificates."""
        self._tls = tls
        self._with_system = with_system
        self._make = make
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._state: tuple[object, ...] | None = None
        """The state of the files when they were last read."""
        self._seen: tuple[object, ...] | None = None
        self.problem: TlsFileError | None = None
        """Why the files as they are now cannot be used."""

    @property
    def stale(self) -> TlsFileError | None:
        """Why the files as they are now cannot be used, although an earlier content of them is in use."""
        return None if self._context is None else self.problem

    @property
    def in_use(self) -> bool:
        """Whether there is a context."""
        return self._context is not None

    @property
    def unchanged(self) -> ssl.SSLContext | None:
        """The context, if its files have not changed since it was made."""
        return self._context if self._current_state() == self._state else None

    def current(self) -> ssl.SSLContext:
        """The context, made of the files as they are now if they can be used. Raises `TlsFileError` without one."""
        with self._lock:
            state = self._current_state()
            if state != self._state:
                try:
                    self._context, self.problem = self._make(), None
                except TlsFileError as problem:
                    self.problem = problem
                self._state = state
            if self._context is not None:
                return self._context
            assert self.problem is not None, "without a context there is a problem"
            raise TlsFileError(self.problem.key, str(self.problem))

    def settled(self) -> bool:
        """Whether the files have changed since they were read, and have not since the last call of this method.

        Renewal replaces a certificate and its key one after the other.
        """
        state = self._current_state()
        before, self._seen = self._seen, state
        return state != self._state and state == before

    def _current_state(self) -> tuple[object, ...]:
        return (*self._tls.state, *_system_state()) if self._with_system else self._tls.state


def _state_of(path: str) -> object:
    """A value that differs when the file or folder has changed."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _system_state() -> tuple[object, ...]:
    """A value that differs when the certificates that the system trusts have changed."""
    import ssl  # noqa: PLC0415

    paths = ssl.get_default_verify_paths()
    return tuple(None if path is None else _state_of(path) for path in (paths.cafile, paths.capath))
