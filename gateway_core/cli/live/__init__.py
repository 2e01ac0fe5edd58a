"""Commands that show what a running gateway does now, and act on it."""
