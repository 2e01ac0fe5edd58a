"""Gateway plugin `audit_log`: an append-only record of who called what, and what was decided."""
