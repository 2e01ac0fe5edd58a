"""HTTP/1.1 (RFC 9112), independent of MCP: the server for agents and the client for upstreams."""
