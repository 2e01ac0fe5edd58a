"""Configurations in force: each reload makes a generation, which judges and serves its requests to their end."""
