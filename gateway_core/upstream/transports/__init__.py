"""How one upstream is reached: stdio, HTTP+SSE, Streamable HTTP, and the negotiation of its era."""
