"""Budgets and shares: of memory, of places, of bytes per second."""
