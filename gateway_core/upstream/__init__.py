"""The upstream side: each `Upstream` is one MCP server and owns `Connection`s over one transport."""
