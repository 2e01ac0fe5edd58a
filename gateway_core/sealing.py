"""What agents carry for the gateway and must neither read nor change: cursors, ids of tasks, states of calls.

A **sealed** text is authenticated encryption (AES-256-GCM) over the content and the moment at which it lapses. It is
**bound** to whatever the opener must name again: a text of another purpose, principal or request opens as little as
one that was altered, so that nobody learns which of these it was (basic/patterns/mrtr, Security Considerations).

A **stable** text is for what has to look the same each time, like an id: the same binding and content give the same
text (AES-256-SIV, RFC 5297), which never lapses.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import secrets
import struct
import time
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAX_SEALED: Final = 1024 * 1024
"""Characters of a text that is looked at at all."""
_NONCE_BYTES: Final = 12
_LAPSE: Final = struct.Struct(">d")

Binding = Sequence[str | bytes]


class Seal:
    """Seals and opens. Without secrets the key is random and of this process alone."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """`keys`: secrets that several processes share; the first seals, all of them open (so that they can change)."""
        material = [key.encode() for key in keys] or [secrets.token_bytes(32)]
        self._ciphers = [AESGCM(_derived(key, b"seal", 32)) for key in material]
        self._stable = [AESSIV(_derived(key, b"stable", 64)) for key in material]
        # Between processes only the wall clock means the same; within one, nothing may depend on its jumps.
        self._clock = time.time if keys else time.monotonic

    def seal(self, binding: Binding, content: bytes, life: float = math.inf) -> str:
        """`content` as a text of URL-safe characters that `open` accepts for `life` seconds, under that binding."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = _LAPSE.pack(self._clock() + life) + content
        return base64.urlsafe_b64encode(nonce + self._ciphers[0].encrypt(nonce, plain, _bound(binding))).decode()

    def open(self, binding: Binding, text: str) -> bytes | None:
        """The content of a sealed text; None for one that is not ours, altered, bound otherwise, or lapsed."""
        data, bound = _decoded(text), _bound(binding)
        for cipher in self._ciphers:
            try:
                plain = cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound)
            except (InvalidTag, ValueError):
                continue
            (lapses,) = _LAPSE.unpack_from(plain)
            return plain[_LAPSE.size :] if self._clock() < lapses else None
        return None

    def seal_stable(self, binding: Binding, content: bytes) -> str:
        """`content` as the text that it always has under that binding. It must not be empty."""
        return _unpadded(self._stable[0].encrypt(content, [_bound(binding)]))

    def open_stable(self, binding: Binding, text: str) -> bytes | None:
        """The content of a stable text; None for one that is not ours, altered, or bound otherwise."""
        data, bound = _decoded(text + "=" * (-len(text) % 4)), [_bound(binding)]
        if _unpadded(data) != text:
            return None  # base64 has several spellings of some bytes; an id has one
        for cipher in self._stable:
            with contextlib.suppress(InvalidTag, ValueError):
                return cipher.decrypt(data, bound)
        return None


def _derived(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length=length, salt=None, info=b"radium-mcp-gateway/" + purpose).derive(key)


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """The bytes of a text; none for one that is too long or no such text."""
    if len(text) > MAX_SEALED:
        return b""
    try:
        return base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _bound(binding: Binding) -> bytes:
    """The parts, each with its length: `("a", "bc")` and `("ab", "c")` are different bindings."""
    parts = [part.encode() if isinstance(part, str) else part for part in binding]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)
