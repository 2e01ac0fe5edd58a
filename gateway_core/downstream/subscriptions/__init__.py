"""Subscriptions of agents to lists, resources and tasks."""
