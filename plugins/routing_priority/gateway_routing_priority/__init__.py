"""Gateway plugin `routing_priority`: the healthy upstream with the lowest priority number serves."""
