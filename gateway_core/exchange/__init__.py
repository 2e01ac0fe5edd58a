"""One request in flight, and the two channels back to its agent."""
