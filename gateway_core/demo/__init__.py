"""The bundled demonstration: two small MCP servers on the official SDK, and a tour of the gateway over them.

`stdio_server` (`toolbox`) and `http_server` (`cities`, one schema in as many instances as wanted) are ordinary
servers that any MCP client can use. `run` (`rad mcp proxy demo`) gives a tour: it starts the gateway over them,
acts as an agent in both eras and tells what happens. Its modules: `tour` the whole, `steps` one function per step,
`stage` what the steps share, `processes` the children.

Nothing here leaves the machine, and the core imports nothing of it.
"""

from __future__ import annotations


def run() -> int:
    """Give the tour on the terminal. Returns 0, or 1 when a step did not show what it should."""
    from gateway_core.demo.tour import main  # noqa: PLC0415  the SDK takes a second to import

    return main()
