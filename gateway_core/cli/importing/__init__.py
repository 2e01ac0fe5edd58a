"""`rad mcp proxy import`: turns the MCP servers of a desktop client's settings into upstreams.

`client_file` reads the settings, `convert` makes the TOML with `server` for each of them, and `command` prints it or
adds it to the configuration. `secrets` recognises secrets, `variables` takes their place, and `placeholders` converts
`${…}`.
"""
