"""Gateway plugin `auth_apikey`: proves who an agent is by a key, and the commands `rad mcp proxy keys`."""
