"""Gateway plugin `conflict_reject`: the first upstream keeps a name that clashes, later ones are dropped."""
