"""Outlier detection and backoff: when to stop sending to an upstream, and when to retry. Callers pass the time."""

from __future__ import annotations

import random
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway_core.errors import UNSUPPORTED_PROTOCOL_VERSION, DeliveryError, Permanent, RefusedUpstream, RpcError

BACKOFF_FIRST: Final = 1.0
BACKOFF_MAX: Final = 60.0
BACKOFF_RESET: Final = 60.0
"""Seconds of health after which the next failure starts at `BACKOFF_FIRST` again."""
STEADY: Final = 10.0
"""Seconds of health after which a lost HTTP connection is reopened at once, even if it served no call."""
LASTING_MAX: Final = 600.0
"""Maximum seconds between two attempts after a permanent failure, one that only an operator can fix."""
TIMED_OUT: Final = "timed out"
"""The reason of a failed call whose deadline passed."""
EJECT_CONSECUTIVE: Final = 5
EJECT_SHARE: Final = 0.5
EJECT_MIN_CALLS: Final = 10
EJECT_WINDOW: Final = 60.0
EJECT_FORGET: Final = 900.0
"""Seconds between two ejections after which the earlier one no longer makes the later one longer."""
_NUMBERS: Final = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")
"""Parts that vary between two reports of the same failure: times, process ids, addresses."""


class Backoff:
    """Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter")."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    @property
    def fresh(self) -> bool:
        """Whether nothing has failed since the last `reset`."""
        return self._failures == 0

    def next(self, *, lasting: bool = False) -> float:
        """Seconds to wait before the next attempt. `lasting`: the failure is permanent."""
        ceiling = min(LASTING_MAX if lasting else BACKOFF_MAX, BACKOFF_FIRST * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        return self._rng.uniform(ceiling / 2 if lasting else 0.0, ceiling)

    def reset(self) -> None:
        self._failures = 0


class Loss(msgspec.Struct, frozen=True):
    """Why an upstream is not connected."""

    reason: str
    lasting: bool = False
    """Whether the failure is permanent: only an operator can fix it."""
    repeats: bool = False
    """Whether the same failure twice in a row is permanent: the server refused, or its process served no call."""
    wait: float = 0.0
    """Seconds before the next attempt that the server asked for."""


class ReconnectPolicy:
    """Decides when to reconnect to one upstream, and how to report its failure."""

    def __init__(self, rng: random.Random) -> None:
        self._backoff = Backoff(rng)
        self._last = ""
        self._times = 0
        """How many times in a row the last failure occurred."""

    def lived(self, seconds: float) -> None:
        """Record that a connection ended after `seconds` of health."""
        if seconds >= BACKOFF_RESET:
            self._backoff.reset()
            self._last = ""

    def may_reconnect(self, healthy: float, *, process: bool, served: bool) -> bool:
        """Whether to reconnect at once after a connection was lost.

        Allowed for the first loss after at least `BACKOFF_FIRST` seconds of health. Later only without a process, after
        a served call or `STEADY` seconds of health, because HTTP servers may close sessions early.
        `process`: reconnecting starts a process. `served`: the server has answered a call on the lost connection.
        """
        fresh = self._backoff.fresh and healthy >= BACKOFF_FIRST
        if fresh:
            self._backoff.next()  # the next loss waits
        return fresh or (not process and (served or healthy >= STEADY))

    def after(self, loss: Loss, last_words: str = "") -> tuple[str, float]:
        """The text that reports a loss, and the seconds to wait after it. `last_words`: the process's last line."""
        same = _NUMBERS.sub("#", f"{loss.reason}: {last_words}") if loss.repeats else ""
        self._times = self._times + 1 if same and same == self._last else 1
        self._last = same
        reason = f"{loss.reason}, {self._times} times in a row" if self._times > 1 else loss.reason
        delay = self._backoff.next(lasting=loss.lasting or self._times > 1)
        return reason, max(delay, min(loss.wait, LASTING_MAX))


@dataclass(slots=True)
class PassiveChecks:
    """Outlier detection for one upstream. `seen`: recent calls as (loop time, whether the transport failed)."""

    seen: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=1000))
    consecutive: int = 0
    ejections: int = 0
    ejected_at: float = 0.0

    def succeeded(self, now: float) -> None:
        """Record a call that got an answer."""
        self.consecutive = 0
        self.seen.append((now, False))

    def failed(self, now: float) -> bool:
        """Record a call that got no answer. Returns whether the upstream must be ejected."""
        self.consecutive += 1
        self.seen.append((now, True))
        while self.seen[0][0] < now - EJECT_WINDOW:
            self.seen.popleft()
        failures = sum(1 for _, bad in self.seen if bad)
        too_many = len(self.seen) >= EJECT_MIN_CALLS and failures >= EJECT_SHARE * len(self.seen)
        return self.consecutive >= EJECT_CONSECUTIVE or too_many

    def ejected(self, now: float) -> int:
        """Record an ejection and forget earlier calls. Returns the number of ejections in a row."""
        self.clear()
        self.ejections = self.ejections + 1 if now - self.ejected_at < EJECT_FORGET else 1
        self.ejected_at = now
        return self.ejections

    def clear(self) -> None:
        self.seen.clear()
        self.consecutive = 0


def is_refusal(problem: DeliveryError | RpcError | None) -> bool:
    """Whether the server answered that it does not serve the gateway, without or with its own credentials."""
    return isinstance(problem, RefusedUpstream) and problem.status in {401, 403}


def is_lasting(problem: DeliveryError | RpcError) -> bool:
    """Whether a failure to connect is permanent: only an operator can fix it."""
    if is_refusal(problem):
        return True
    if isinstance(problem, RpcError):
        return problem.code == UNSUPPORTED_PROTOCOL_VERSION
    return isinstance(problem, Permanent)
