"""HTTP/1.1 as a client, with nothing of MCP in it: kept connections, requests as bytes, bounded answers."""
