"""Commands that inspect a configuration without serving agents: `check` and `plugins`."""
