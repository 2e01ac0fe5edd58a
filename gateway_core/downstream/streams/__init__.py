"""Streams to agents: mailboxes, pending questions, and the event store for resumption."""
