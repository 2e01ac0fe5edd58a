"""Sessions of legacy agents, and the store that limits their number."""
