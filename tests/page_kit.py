"""What a running gateway shows its operators."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gateway_core.cli.client import fetch
from gateway_core.cli.running import NotAnswering, instance


def page(config: Path, name: str) -> dict[str, Any]:
    """What the command `status` or `tools` gets from the gateway with this file, without a process for the command.

    Asks again for a minute while the gateway is too busy to answer.
    """
    deadline = time.monotonic() + 60
    while True:
        try:
            return fetch(instance(config), name)
        except NotAnswering:
            if time.monotonic() > deadline:
                raise
