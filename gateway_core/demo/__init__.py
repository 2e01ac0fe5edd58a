"""The bundled demonstration: two small MCP servers on the official SDK, and a tour of the gateway in front of them.

`stdio_server` (`toolbox`) and `http_server` (`cities`, any number of instances with the same schemas) are ordinary
servers for any MCP client. `run` (`rad mcp proxy demo`) runs the tour: it starts the servers and the gateway, acts as
an agent in both eras, and reports each step. Modules: `tour` runs the steps, `steps` has one function per step, `stage`
holds what the steps share, `processes` manages the children.

The demonstration uses loopback only. Only the CLI imports it.
"""

from __future__ import annotations


def run() -> int:
    """Run the tour on the terminal. Returns 0, 1 if a step failed, or 130 if it was interrupted."""
    from gateway_core.demo.tour import main  # noqa: PLC0415  the SDK takes a second to import

    return main()
