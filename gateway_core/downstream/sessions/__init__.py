"""Sessions of legacy agents: the live ones, and the store that bounds them."""
