"""Gateway plugin `conflict_priority`: the upstream with the lowest priority number keeps a conflicting name."""
