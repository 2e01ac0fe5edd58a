"""What single upstreams get of the agent that calls: the values that `forward` names, and exchanged tokens."""
