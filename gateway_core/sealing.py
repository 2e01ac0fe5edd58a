"""Sealed tokens, which agents hold but can neither read nor change: cursors, task ids, request states.

A **sealed** token encrypts and authenticates its content and its expiry time (AES-256-GCM). It is **bound** to values
that the opener must supply again. A token for another purpose, principal or request fails in the same way as an
altered one: agents cannot tell the cases apart (basic/patterns/mrtr, Security Considerations).

A **stable** token serves as an id: the same binding and content give the same token (AES-256-SIV, RFC 5297). It never
expires.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import secrets
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAX_SEALED: Final = 1024 * 1024
"""Characters; a longer token is rejected unread."""
_NONCE_BYTES: Final = 12
_LAPSE: Final = struct.Struct(">d")

Binding = Sequence[str | bytes]


class Seal:
    """Seals and opens tokens. Without `keys` the key is random and known to this process only."""

    def __init__(self, keys: Sequence[str] = (), secret: bytes = b"") -> None:
        """`keys`: secrets that several processes share; the first one seals, all open, which allows key rotation.

        `secret`: the random key of an earlier process, for use without `keys`.
        """
        self.secret: Final = b"" if keys else secret or secrets.token_bytes(32)
        """The random key; empty with `keys`."""
        material = [key.encode() for key in keys] or [self.secret]
        self._ciphers = [AESGCM(_derived(key, b"seal", 32)) for key in material]
        self._stable = [AESSIV(_derived(key, b"stable", 64)) for key in material]
        # Processes share only the wall clock; within one process, its jumps must have no effect.
        self.clock: Final[Callable[[], float]] = time.time if keys else time.monotonic
        """The clock of its tokens, in seconds."""

    def seal(self, binding: Binding, content: bytes, life: float = math.inf) -> str:
        """`content` as a URL-safe token that `open` accepts for `life` seconds with the same binding."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = _LAPSE.pack(self.clock() + life) + content
        return base64.urlsafe_b64encode(nonce + self._ciphers[0].encrypt(nonce, plain, _bound(binding))).decode()

    def open(self, binding: Binding, text: str) -> bytes | None:
        """The content of a sealed token; None if it is foreign, altered, expired, or has another binding."""
        data, bound = _decoded(text), _bound(binding)
        for cipher in self._ciphers:
            try:
                plain = cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound)
            except (InvalidTag, ValueError):
                continue
            (lapses,) = _LAPSE.unpack_from(plain)
            return plain[_LAPSE.size :] if self.clock() < lapses else None
        return None

    def seal_stable(self, binding: Binding, content: bytes) -> str:
        """`content`, which must not be empty, as its stable token for that binding."""
        return _unpadded(self._stable[0].encrypt(content, [_bound(binding)]))

    def open_stable(self, binding: Binding, text: str) -> bytes | None:
        """The content of a stable token; None if it is foreign, altered, or has another binding."""
        data, bound = _decoded(text + "=" * (-len(text) % 4)), [_bound(binding)]
        if _unpadded(data) != text:
            return None  # base64 can encode some bytes in several ways; an id has one form
        for cipher in self._stable:
            with contextlib.suppress(InvalidTag, ValueError):
                return cipher.decrypt(data, bound)
        return None


def _derived(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length=length, salt=None, info=b"radium-mcp-gateway/" + purpose).derive(key)


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """The bytes of a token; empty if it is too long or not valid base64."""
    if len(text) > MAX_SEALED:
        return b""
    try:
        return base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _bound(binding: Binding) -> bytes:
    """The parts, each after its length, so that `("a", "bc")` and `("ab", "c")` are different bindings."""
    parts = [part.encode() if isinstance(part, str) else part for part in binding]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)
