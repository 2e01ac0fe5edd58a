"""`rad mcp proxy import`: turns the MCP servers of a desktop client's settings into upstreams.

`client_file` reads the settings, `variables` keeps secrets out of the result, `convert` makes the TOML, and `command`
prints it or adds it to the configuration.
"""
