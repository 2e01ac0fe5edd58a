"""One request in flight, and its two channels back to the agent."""
