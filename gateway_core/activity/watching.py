"""Whether a reader watches the calls: only then is every call recorded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from gateway_core.pipeline.pipeline import Pipeline

PATIENCE: Final = 600.0
"""Seconds after a request of a script for recent calls in which the next one counts as expected."""
BROWSER_PATIENCE: Final = 25.0
"""The same for a browser that has no event stream: ten seconds longer than a page of the dashboard waits at most."""


class Watching:
    """Who watches the calls, and the pipelines that record them."""

    def __init__(self) -> None:
        self._pipelines: WeakSet[Pipeline] = WeakSet()
        self._streams: Counter[str] = Counter()
        """The number of event streams with calls, by browser session; the empty id stands for all scripts."""
        self._looks: dict[str, asyncio.TimerHandle] = {}
        """By browser session, as in `_streams`: ends the wait for the next request."""
        self.on = False
        """Whether calls that begin now are recorded however they end."""

    def attach(self, pipeline: Pipeline) -> None:
        """Let a pipeline record its calls while a reader watches."""
        self._pipelines.add(pipeline)
        pipeline.record_all(self.on)

    def begin(self, browser: str = "") -> Callable[[], None]:
        """A reader watches from now on; returns the function that ends that.

        `browser`: the id of its browser session; empty for a script. With the last stream of a browser, its earlier
        requests no longer count either: its page was closed or hidden.
        """
        self._streams[browser] += 1
        self._decide()
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._streams[browser] -= 1
                if not self._streams[browser]:
                    del self._streams[browser]
                    if browser:
                        self._forget(browser)
                self._decide()

        return leave

    def look(self, browser: str = "") -> None:
        """A reader has looked at the recent calls, and may do so again. `browser`: see `begin`."""
        self._forget(browser)
        seconds = BROWSER_PATIENCE if browser else PATIENCE
        self._looks[browser] = asyncio.get_running_loop().call_later(seconds, self._over, browser)
        self._decide()

    def stop_waiting(self) -> None:
        """Wait for no other look."""
        for browser in list(self._looks):
            self._forget(browser)

    def _forget(self, browser: str) -> None:
        if (timer := self._looks.pop(browser, None)) is not None:
            timer.cancel()

    def _over(self, browser: str) -> None:
        del self._looks[browser]
        self._decide()

    def _decide(self) -> None:
        on = bool(self._streams or self._looks)
        if on != self.on:
            self.on = on
            for pipeline in self._pipelines:
                pipeline.record_all(on)
