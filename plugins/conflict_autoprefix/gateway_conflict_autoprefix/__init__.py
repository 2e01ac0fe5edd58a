"""Gateway plugin `conflict_autoprefix`: prefixes conflicting names with their upstream's name."""
