"""Gateway plugin `security_ratelimit`: limits calls per agent and tool."""
