"""Background sends: messages to a server that no caller waits for, such as cancellations and answers to questions."""

from __future__ import annotations

from typing import Final

from gateway_core.background import Background
from gateway_core.errors import DeliveryError, RpcError

MAX_SENDS: Final = 2048
"""Maximum number of running and waiting sends of one connection, as many calls may be cancelled at once; more are
dropped."""
AT_ONCE: Final = 64
"""Maximum number of concurrent sends of one connection."""
SEND_TIMEOUT: Final = 5.0
"""Seconds for one send."""
FAREWELL: Final = 2.0
"""Seconds that the end of a connection waits for its sends, so that cancellations reach the server."""
UNDELIVERED: Final = (DeliveryError, RpcError, TimeoutError)
"""Failures of a send that need no line: waiting requests and the loss of the connection report them."""


def background_sends(upstream: str) -> Background:
    """What runs the background sends of one connection to `upstream`."""
    return Background(
        f"sending to upstream {upstream}",
        limit=MAX_SENDS,
        at_once=AT_ONCE,
        timeout=SEND_TIMEOUT,
        expected=UNDELIVERED,
    )
