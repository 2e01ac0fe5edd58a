"""The chain of hashes: each entry has the hash of the one before it, and its own over its bytes.

An entry is one line of JSON. Its last members are `prev`, the hash of the entry before it, and `hash`, over every byte
of the line before that member. With a key the hash is an HMAC, so that only who has the key can make one.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gateway_core import UnusableFile, read_private_file

ZERO: Final = "0" * 64
"""`prev` of the first entry."""
MIN_KEY: Final = 32
MAX_KEY: Final = 4096
"""Bytes of a key file."""
MAX_LINE: Final = 8 * 1024 * 1024
"""Bytes of an entry; longer lines are damaged."""
_MEMBER: Final = b',"hash":"'
_TAIL: Final = len(_MEMBER) + 64 + 2


class UnusableKey(ValueError):
    """The key file cannot be used. The text names it and shows nothing of it."""


class Keys(NamedTuple):
    """What is derived from the content of a key file."""

    chain: bytes | None
    """Key of the chain; None without a key file."""
    digest: bytes
    """Key of the digests of arguments and results."""

    @property
    def method(self) -> str:
        """How the hashes are made, as the entries say it."""
        return "sha256" if self.chain is None else "hmac-sha256"


def keys_of(path: Path | None, fallback: bytes) -> Keys:
    """The keys of a file. `fallback`: the key of digests without one. Raises `UnusableKey`."""
    if path is None:
        return Keys(None, fallback)
    try:
        secret = read_private_file(path, MAX_KEY).strip()
    except FileNotFoundError:
        raise UnusableKey(
            f"{path}: there is no such key file; to make one: (umask 077; openssl rand -hex 32 > '{path}')"
        ) from None
    except UnusableFile as problem:
        raise UnusableKey(f"{path}: the key file cannot be used: {problem}") from None
    if len(secret) < MIN_KEY:
        raise UnusableKey(f"{path}: the key file has {len(secret)} bytes; it needs at least {MIN_KEY}")
    return Keys(_derived(secret, b"chain"), _derived(secret, b"digest"))


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"radium audit_log " + purpose, "sha256")


class Entry(msgspec.Struct, frozen=True):
    """The members of an entry that the chain needs."""

    seq: int
    prev: str
    hash: str
    type: str = ""
    chain: str = ""
    damaged_bytes: int = 0


_DECODE: Final = msgspec.json.Decoder(Entry).decode


def sealed(body: bytes, prev: str, key: bytes | None) -> tuple[bytes, str]:
    """The line of an entry, without its newline, and its hash. `body`: a JSON object with at least one member."""
    signed = b'%b,"prev":"%b"' % (body[:-1], prev.encode())
    made = hash_of(signed, key)
    return b'%b%b%b"}' % (signed, _MEMBER, made.encode()), made


def hash_of(signed: bytes, key: bytes | None) -> str:
    """The hash over the bytes of an entry before its member `hash`."""
    return hashlib.sha256(signed).hexdigest() if key is None else hmac.digest(key, signed, "sha256").hex()


def read_entry(line: bytes) -> Entry | None:
    """The entry of a line without its newline; None if the line is damaged."""
    if len(line) > MAX_LINE or line[-_TAIL : -_TAIL + len(_MEMBER)] != _MEMBER or line[-2:] != b'"}':
        return None
    try:
        entry = _DECODE(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return entry if entry.hash.encode() == line[-66:-2] else None


def is_genuine(line: bytes, entry: Entry, key: bytes | None) -> bool:
    """Whether the hash of an entry is that of its bytes."""
    return hmac.compare_digest(hash_of(line[:-_TAIL], key), entry.hash)


def digest_of(data: bytes, key: bytes) -> str:
    """The keyed digest of arguments or of a result: short texts cannot be guessed from it without the key."""
    return hmac.digest(key, data, "sha256")[:16].hex()
