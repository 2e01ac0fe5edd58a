"""Who sends a request over HTTP: addresses behind trusted proxies, and the verdicts of authenticating plugins."""
