"""The pipeline that serves every call, from an agent's params to its result."""
