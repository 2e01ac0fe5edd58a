"""Streams to agents: mailboxes, questions on their way, and the event store for resumption."""
