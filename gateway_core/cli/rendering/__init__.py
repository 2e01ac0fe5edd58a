"""Output for people: `table` lays out tables, `pages` renders what the control plane answers."""
