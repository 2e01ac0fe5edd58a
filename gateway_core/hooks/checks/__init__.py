"""Checks of what plugins are made of, before any hook of theirs runs."""
