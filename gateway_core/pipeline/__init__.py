"""The one way of every call, from an agent's params to its result."""
