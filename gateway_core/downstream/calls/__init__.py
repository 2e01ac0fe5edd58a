"""Calls of agents, from their admission to their end."""
