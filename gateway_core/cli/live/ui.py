"""`rad mcp proxy ui`: opens the dashboard of the running gateway in a browser, without a password.

The address has a code, which is a secret until the browser uses it, and other users may read the arguments of a
process. So the browser gets the path of a file that only its owner can read, and that file leads to the address.
"""

from __future__ import annotations

import os
import time
from html import escape
from pathlib import Path
from typing import Final

from gateway_core.cli.client import fetch, send
from gateway_core.cli.instance import Instance
from gateway_core.cli.logins.browser import has_browser, open_browser
from gateway_core.cli.report import Failed, put, say
from gateway_core.cli.running import holder, instance

POLL: Final = 0.3
"""Seconds between two looks at whether the browser has come."""
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}"><title>Radium MCP gateway</title></head>
<body><p><a href="{address}">Open the dashboard</a></p></body></html>
"""


def ui(config: Path | None, *, read_only: bool, print_it: bool) -> None:
    """Open the dashboard, or print its address. Raises `Failed`, `NotRunning`, `NotAnswering`."""
    running = instance(config)
    made = send(running, "POST", "browser-logins", {"right": "read" if read_only else "change"})
    address = running.control_address + str(made["path"])
    if print_it or not has_browser():
        say(f"open this address in a browser within {made['seconds']:g} s; it can be used once, so keep it secret:")
        put(address)
        return
    page = holder(config)[0].with_suffix(".ui.html")
    _write(page, _PAGE.format(address=escape(address)))
    try:
        say(f"opening the dashboard at {running.control_address}")
        open_browser(page.absolute().as_uri())
        _wait(running, str(made["id"]), made["seconds"])
    finally:
        page.unlink(missing_ok=True)


def _write(page: Path, text: str) -> None:
    """Write a file that only its owner can read, in place of an earlier one. Raises `Failed`."""
    try:
        page.unlink(missing_ok=True)
        fd = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
    except OSError as error:
        raise Failed(f"cannot write {page}: {error.strerror}; `--print` needs no file") from None


def _wait(running: Instance, code: str, seconds: float) -> None:
    """Wait until a browser has used a code. Raises `Failed` if none did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if code not in fetch(running, "browser-logins")["waiting"]:
            return
        time.sleep(POLL)
    raise Failed("no browser came; `rad mcp proxy ui --print` prints an address to open by hand")
