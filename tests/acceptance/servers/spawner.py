"""A stdio server that leaves processes behind: one that ends soon, and one that outlives the server."""

import os
import subprocess
import threading

from mcp.server import MCPServer

server = MCPServer("spawner", version="1.0")


@server.tool()
def leave() -> str:
    "Leave two processes behind, then end."
    subprocess.run(["sh", "-c", "sleep 0.3 & setsid sleep 300 &"], check=True)
    threading.Timer(0.5, lambda: os._exit(0)).start()
    return f"from process {os.getpid()} of uid {os.getuid()}"


server.run("stdio")
