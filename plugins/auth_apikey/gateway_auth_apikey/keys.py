"""Keys: their form, and the hashes that are stored of them.

A key is `rad_ID_SECRETCHECKSUM`. The id (12 characters) is public and finds the record. The secret (43 characters, 256
random bits) proves the key. The checksum (6 characters, CRC-32 of everything before it) tells a mistyped key and
accidental text from a key; it is no proof.

A hash is a PHC string of scrypt (RFC 7914), `$scrypt$ln=14,r=8,p=1$SALT$HASH`, so that its parameters can be raised
for new keys. `hashlib` computes it, because that releases the GIL.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "rad_"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID: Final = re.compile(r"[0-9A-Za-z]{12}")
_KEY: Final = re.compile(r"rad_([0-9A-Za-z]{12})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_HASH: Final = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43})"
)
_COST: Final = (14, 8, 1)
"""Logarithm of the cost, block size and parallelization of new hashes: 16 MiB of memory."""
_MAX_MEMORY: Final = 64 * 1024 * 1024
"""Maximum bytes of memory that the parameters of a stored hash may ask for."""
_MAX_PARALLEL: Final = 4


@dataclass(frozen=True, slots=True)
class Key:
    """The parts of a key that has the right form."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls) -> Key:
        return cls(_random(12), _random(43))

    @classmethod
    def parse(cls, text: str) -> Key | None:
        """The parts of a key; None if it has another form or its checksum is wrong."""
        found = _KEY.fullmatch(text)
        if found is None or _checksum(text[:-6]) != found[3]:
            return None
        return cls(found[1], found[2])

    def __str__(self) -> str:
        text = f"{PREFIX}{self.id}_{self.secret}"
        return text + _checksum(text)


def hash_of(secret: str) -> str:
    """A new hash of a secret. Takes tens of milliseconds."""
    salt = secrets.token_bytes(16)
    cost, block, parallel = _COST
    return f"$scrypt$ln={cost},r={block},p={parallel}${_encoded(salt)}${_encoded(_scrypt(secret, salt, _COST))}"


UNKNOWN: Final = f"$scrypt$ln=14,r=8,p=1${'A' * 22}${'A' * 43}"
"""A hash that no secret has, to compare with where there is no record. It has the cost of new hashes."""


def matches(secret: str, stored: str) -> bool:
    """Whether `stored` is a hash of the secret. Takes tens of milliseconds, whatever the answer."""
    cost, salt, digest = _parsed(stored)
    return hmac.compare_digest(_scrypt(secret, salt, cost), digest)


def check_hash(stored: str) -> str:
    """`stored`, if it is a hash. Raises `ValueError`, whose text does not show it."""
    _parsed(stored)
    return stored


def _parsed(stored: str) -> tuple[tuple[int, int, int], bytes, bytes]:
    found = _HASH.fullmatch(stored)
    if found is None:
        raise ValueError("is not a hash that `rad mcp proxy keys add` made")
    cost, block, parallel = int(found[1]), int(found[2]), int(found[3])
    memory = 128 * block << cost
    if not (cost and block and 1 <= parallel <= _MAX_PARALLEL and memory <= _MAX_MEMORY):
        raise ValueError("is a hash with parameters that are out of bounds")
    try:
        return (cost, block, parallel), _decoded(found[4]), _decoded(found[5])
    except binascii.Error:
        raise ValueError("is not a hash that `rad mcp proxy keys add` made") from None


def _scrypt(secret: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    power, block, parallel = cost
    return hashlib.scrypt(
        secret.encode(), salt=salt, n=1 << power, r=block, p=parallel, maxmem=2 * _MAX_MEMORY, dklen=32
    )


def _random(characters: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))


def _checksum(text: str) -> str:
    number, found = zlib.crc32(text.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, len(_ALPHABET))
        found = _ALPHABET[digit] + found
    return found


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
