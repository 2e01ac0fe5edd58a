"""What a server tells by itself, for the agents that asked: changes of lists and resources, status of tasks, logs."""
