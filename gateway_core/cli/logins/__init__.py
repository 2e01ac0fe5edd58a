"""`rad mcp proxy login` and `logout`: the operator's logins at upstreams, with a browser."""
