"""The upstream side: one MCP server behind the gateway is an `Upstream`; it owns `Connection`s of one transport."""
