"""Logins of principals at upstreams with `identity = "user"`: from the question to the tokens."""
