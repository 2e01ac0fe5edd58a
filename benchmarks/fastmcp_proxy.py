"""fastmcp's proxy before one upstream, as its documentation shows it; runs in the environment of that peer.

python fastmcp_proxy.py PORT UPSTREAM_URL
"""

import sys

from fastmcp.server import create_proxy

if __name__ == "__main__":
    create_proxy(sys.argv[2], name="proxy").run(
        transport="http",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        path="/mcp",
        log_level="error",
        show_banner=False,
        uvicorn_config={"access_log": False},
    )
