"""`rad mcp proxy start`: from the options to a gateway that runs, detached or not."""
