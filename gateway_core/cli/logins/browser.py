"""Opens the browser of the person at the terminal."""

from __future__ import annotations

import os
import sys
import threading


def has_browser() -> bool:
    """Whether a graphical browser can be opened: without a display, a text browser would take over the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(it) for it in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def open_browser(address: str) -> None:
    """Open an address in a browser, without waiting: some browsers block."""
    import webbrowser  # noqa: PLC0415 - few commands need it

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
