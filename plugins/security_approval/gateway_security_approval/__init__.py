"""Gateway plugin `security_approval`: asks a person before calls that need one."""
