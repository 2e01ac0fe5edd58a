"""How far one call has come: for whoever goes on with it, and whoever has to end it early."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from gateway_core.catalog import Target
from gateway_core.chain import Passed
from gateway_core.log.lines import Line
from gateway_core.types import Call, CallResult, Reject
from gateway_core.upstream.upstream import Upstream


class Course(msgspec.Struct, eq=False):
    """One call's way through the pipeline."""

    members: Mapping[str, Raw]
    """Of the request's params."""
    started: float
    """Loop time."""
    answer: CallResult | None = None
    """What the upstream said without being asked, so that it need not be."""
    named: str = ""
    """The name in the request, where it was read before there is a `call`."""
    line: Line | None = None
    """Its line in the log, if it ends well."""
    call: Call | None = None
    """As plugins see it; None before its target was looked up."""
    target: Target | None = None
    """What the last look-up found; dispatched as it is, so that plugins judged what is then called."""
    passed: Passed | None = None
    """How far it is through the plugins; None where none of them has a say."""
    verdict: Reject | CallResult | None = None
    """What ended it before it was sent."""
    chosen: Upstream | None = None
    """The upstream that gets it, once that is known before it is dispatched."""

    @property
    def name(self) -> str:
        """What is asked for, as plugins left it; empty for lists, and as long as nothing was read."""
        return self.named if self.call is None else self.call.name
