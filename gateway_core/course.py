"""How far one call has come: for whoever goes on with it, and whoever has to end it early."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw

from gateway_core.catalog import Target
from gateway_core.chain import Passed
from gateway_core.types import Call, CallResult, Reject
from gateway_core.upstream.upstream import Upstream


class Course:
    """One call's way through the pipeline."""

    __slots__ = ("answer", "call", "chosen", "members", "passed", "started", "target", "verdict")

    def __init__(self, members: Mapping[str, Raw], started: float, answer: CallResult | None = None) -> None:
        self.members = members
        """Of the request's params."""
        self.started = started
        """Loop time."""
        self.answer = answer
        """What the upstream said without being asked, so that it need not be."""
        self.call: Call | None = None
        """As plugins see it; None before its target was looked up."""
        self.target: Target | None = None
        """What the last look-up found; dispatched as it is, so that plugins judged what is then called."""
        self.passed: Passed | None = None
        """How far it is through the plugins; None where none of them has a say."""
        self.verdict: Reject | CallResult | None = None
        """What ended it before it was sent."""
        self.chosen: Upstream | None = None
        """The upstream that gets it, once that is known before it is dispatched."""
