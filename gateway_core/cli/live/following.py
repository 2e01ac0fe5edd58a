"""What all commands share that show a running gateway until they are interrupted: they outlive its restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from gateway_core.cli.client import fetch, messages
from gateway_core.cli.instance import Instance, NotRunning
from gateway_core.cli.report import Failed, say
from gateway_core.cli.running import NotAnswering, instance

RETRY: Final = 1.0
"""Seconds between two looks for a gateway that has stopped."""


class Gateway:
    """The running gateway of a configuration, and the next one after a restart."""

    def __init__(self, config: Path | None) -> None:
        """Raises `NotRunning` if there is none."""
        self._config = config
        self._running: Instance | None = instance(config)

    def fetch(self, page: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As `client.fetch`; waits while the gateway restarts."""
        address = page_of(page, query)
        return self._patiently(lambda running: fetch(running, address))

    def messages(self, page: str, query: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The messages of an event stream, each with its id. The stream goes on after a restart."""
        last = ""
        while True:
            try:
                for seq, message in messages(self._instance(), page_of(page, query), last):
                    last = seq
                    yield seq, message
            except (NotAnswering, NotRunning):
                self._lost()
            time.sleep(RETRY)

    def _patiently(self, ask: Callable[[Instance], dict[str, Any]]) -> dict[str, Any]:
        while True:
            try:
                return ask(self._instance())
            except (NotAnswering, NotRunning):
                self._lost()
                time.sleep(RETRY)

    def _instance(self) -> Instance:
        if self._running is None:
            self._running = next_instance(self._config)
            say("the gateway runs again")
        return self._running

    def _lost(self) -> None:
        if self._running is not None:
            self._running = None
            say("the gateway does not answer; waiting for it")


def next_instance(config: Path | None) -> Instance:
    """The gateway that runs after a restart. Raises `NotRunning`, and `NotAnswering` while it starts."""
    try:
        return instance(config)
    except Failed as starting:
        raise NotAnswering(str(starting)) from None


def page_of(page: str, query: Mapping[str, Any] | None) -> str:
    """The address of a page with a query; empty values are left out."""
    given = {key: value for key, value in (query or {}).items() if value not in ("", None)}
    return f"{page}?{urlencode(given)}" if given else page


def clock(at: float) -> str:
    """A moment for people: date and time on this machine, to the second."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S") if at else "-"
