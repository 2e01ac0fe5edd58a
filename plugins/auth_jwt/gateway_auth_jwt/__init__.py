"""Gateway plugin `auth_jwt`: authenticates agents by JWT access tokens, as an OAuth 2.1 resource server.

Terms, from the MCP specification's basic/authorization and the RFCs that it builds on:

- A *token* is a signed JWT (RFC 7519). `token.py` reads it, `verification.py` verifies it, and `identity.py` derives
  the principal from its *claims*.
- An *issuer* is an authorization server, named by its issuer identifier. *Discovery* reads its metadata
  (RFC 8414, or OpenID Connect Discovery) and finds the address of its keys (`discovery.py`).
- A *key set* (JWKS, RFC 7517) holds the public keys of an issuer (`key_set.py`). `key_stores.py` keeps the current one.
- The *resource* is the gateway. Its metadata (RFC 9728) names the issuers to clients (`plugin.py`).
"""
