"""Profiles: views of the catalog for some agents, with fewer entries, other names, and arguments that are set."""
