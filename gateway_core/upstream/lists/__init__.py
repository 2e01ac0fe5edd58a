"""What one upstream publishes: its lists, fetched within bounds and checked entry by entry."""
