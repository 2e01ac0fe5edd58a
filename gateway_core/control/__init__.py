"""The control plane: what operators see and do, on a listener that agents do not use.

`app` is the aiohttp application, `listener` its TCP server; both reach the gateway only through `Operations`. `report`
and `live` make the JSON values for it. The control plane runs whether or not agents are served.
"""

from __future__ import annotations

from gateway_core.control.listener import ControlPlane

__all__ = ["ControlPlane"]
