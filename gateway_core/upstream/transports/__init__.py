"""Transports to upstream servers (stdio, HTTP+SSE, Streamable HTTP) and the negotiation of the era."""
