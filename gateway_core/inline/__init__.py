"""Inline calls: coroutines that are stepped without a task, and promoted to one if they have to wait."""
