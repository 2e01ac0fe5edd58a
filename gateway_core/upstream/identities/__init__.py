"""Upstreams that are called as their users: an identity per principal, each with connections for itself."""
