"""Commands on tools: `listing` shows them, `call` calls one; `schema`, `arguments` and `example` read their schemas."""
