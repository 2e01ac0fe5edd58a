"""The control plane: what operators see and do, on a listener that agents do not use.

`endpoints/` has the endpoints, one module for each subject, and `table` joins them; they reach the gateway only through
`Operations`. `app` is the aiohttp application that serves them, `listener` its TCP server. `report` and `live` make
JSON values. The control plane runs whether or not agents are served.

`app`, `table` and what they import load slowly, and agents do not need them. Only `ControlPlane.load` may import them
in a gateway.
"""

from __future__ import annotations

from gateway_core.control.access import Access
from gateway_core.control.browsers import BrowserSessions
from gateway_core.control.listener import ControlPlane

__all__ = ["Access", "BrowserSessions", "ControlPlane"]
