"""Gateway plugin `security_redact`: writes payloads to the log with secrets hidden."""
