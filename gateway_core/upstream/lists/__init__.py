"""Fetches the lists of one upstream within bounds, checks each entry, and publishes the result."""
