"""HTTP/1.1 (RFC 9112) with nothing of MCP in it: the server that agents talk to."""
