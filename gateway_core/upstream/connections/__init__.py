"""Assigns calls to connections, and limits how many run at a time."""
