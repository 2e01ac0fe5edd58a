"""Gateway plugin `security_redact`: logs payloads with secrets hidden."""
