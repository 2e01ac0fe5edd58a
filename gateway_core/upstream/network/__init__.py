"""How the gateway reaches an upstream over HTTP: proxies, TLS, redirects, cookies and content codings."""
