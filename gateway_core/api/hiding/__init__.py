"""Finds secrets by their names and their shapes, and hides them."""
