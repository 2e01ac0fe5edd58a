"""HTTP/1.1 as a client: connections to upstreams, heads, and responses."""
