"""`rad mcp proxy start`: runs the gateway (`serve`, then `lifetime`), or detaches it (`detach`)."""
