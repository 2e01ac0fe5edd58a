"""Gateway plugin `conflict_reject`: the first claim keeps a conflicting name, later ones are dropped."""
