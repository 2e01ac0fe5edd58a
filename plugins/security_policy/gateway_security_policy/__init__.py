"""Gateway plugin `security_policy`: rules that say who may call what."""
