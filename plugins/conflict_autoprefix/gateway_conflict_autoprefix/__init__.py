"""Gateway plugin `conflict_autoprefix`: names that clash get their upstream's name as a prefix."""
