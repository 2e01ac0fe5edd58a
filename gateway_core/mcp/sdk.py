"""Loads what the gateway uses of the official SDK while it serves: rules about headers and addresses.

Importing it takes up to a second of processor time. So it is imported when it is first needed, and in a thread: on the
event loop, the import would delay every call. Functions that use it import it by name, after callers awaited `load`.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final

_begun: Final = threading.Event()
_loaded: Final = threading.Event()


async def load() -> None:
    """Load it, if nothing has loaded it yet."""
    if not _loaded.is_set():
        await asyncio.to_thread(_load)


def load_soon() -> None:
    """Begin to load it, without waiting."""
    if not _begun.is_set():
        threading.Thread(target=_load, name="load the SDK", daemon=True).start()
        _begun.set()


def _load() -> None:
    import mcp.shared.auth_utils  # noqa: PLC0415
    import mcp.shared.inbound  # noqa: F401, PLC0415

    _loaded.set()
