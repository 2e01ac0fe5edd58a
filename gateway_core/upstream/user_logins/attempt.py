"""One attempt of one principal to log in at one upstream."""

from __future__ import annotations

import asyncio
from typing import Final, Literal, TypeAlias

from gateway_core.api import Principal
from gateway_core.config import AuthConfig, UpstreamConfig

Step: TypeAlias = Literal["open", "unconfirmed", "complete", "failed"]
"""`open`: the person has not logged in. `unconfirmed`: the person has, and the agent must bring the code."""


class LoginAttempt:
    """One attempt of one principal at one upstream."""

    def __init__(self, principal: Principal, upstream: UpstreamConfig, url: str, number: int) -> None:
        """`url`: the address of its page, which ends with its id. `number`: differs from that of all others."""
        assert upstream.auth is not None, "checked by the configuration"
        self.principal: Final = principal
        self.upstream: Final = upstream
        self.auth: Final[AuthConfig] = upstream.auth
        self.url: Final = url
        self.number: Final = number
        self.step: Step = "open"
        self.reason = ""
        """Why it failed."""
        self.code = ""
        """What the agent must bring; empty unless it is unconfirmed."""
        self._moved = asyncio.Event()

    def move(self, step: Step, *, reason: str = "", code: str = "") -> None:
        """Enter a step, and wake those that wait for it."""
        self.step, self.reason, self.code = step, reason, code
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def at(self, *steps: Step) -> bool:
        """Whether it is at one of these steps."""
        return self.step in steps

    async def leave(self, step: Step) -> None:
        """Wait until it is at another step."""
        while self.step == step:
            await self._moved.wait()
