"""Gateway plugin `routing_priority`: routes to the healthy upstream with the lowest priority number."""
