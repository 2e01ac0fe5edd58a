"""Gateway plugin `auth_mtls`: client certificates prove who an agent is."""
