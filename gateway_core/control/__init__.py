"""The control plane: what operators ask the gateway, on a listener that agents do not use.

`app` is the aiohttp application, `listener` its TCP side, `report` what it shows. It knows the rest of the gateway
through `Operations`, and runs whether or not agents are served.
"""

from __future__ import annotations

from gateway_core.control.listener import ControlPlane

__all__ = ["ControlPlane"]
