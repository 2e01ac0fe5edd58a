"""The key `forward` of an upstream: values of the agent that calls, in headers to one upstream."""
