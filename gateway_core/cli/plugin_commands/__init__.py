"""Commands that plugins add to `rad mcp proxy`: `mounting` finds them, `context` is what they work with."""
