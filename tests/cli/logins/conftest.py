"""A project with an upstream that needs a login, and a person who logs in."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.login_kit import Served, Tracker


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    served = Served()
    yield served.tracker
    served.close()


@pytest.fixture
def with_tracker(with_server: Path, tracker: Tracker) -> Path:
    """`with_server`, and the tracker as a second upstream."""
    with (with_server / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write(
            f'[[mcp.proxy.upstreams]]\nname = "tracker"\ntransport = "http"\nurl = "{tracker.origin}/mcp"\n'
            'health_check_interval = 0.5\n[mcp.proxy.upstreams.auth]\ngrant = "authorization_code"\n'
        )
    return with_server


def opened(address: str, **headers: str) -> tuple[int, str]:
    """Open an address as a browser does. Status and text of the page at which it ends."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def browse() -> Callable[..., tuple[int, str]]:
    return opened


@pytest.fixture
def log_in(spawn: Callable[..., subprocess.Popen[str]]) -> Callable[..., Any]:
    """`log_in()` runs `rad mcp proxy login tracker --no-browser` and logs in at the address that it prints."""

    def run() -> tuple[int, str, str, tuple[int, str]]:
        child = spawn("login", "tracker", "--no-browser")
        assert child.stdout is not None
        page = opened(child.stdout.readline().strip())
        out, err = child.communicate(timeout=50)
        return child.returncode, out, err, page

    return run
