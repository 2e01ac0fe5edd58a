"""Calls whose coroutines are stepped by hand, and promoted to a task where they have to wait."""
