"""OAuth towards upstreams: how the gateway, a client of its own, gets the tokens that it sends them.

Vocabulary, from the specification's basic/authorization and the RFCs it builds on:

- A *challenge* is what an upstream's 401 or 403 says in `WWW-Authenticate` (`challenge.py`).
- *Discovery* leads from there over the upstream's protected resource metadata (RFC 9728) to the metadata of its
  authorization server (RFC 8414, or OpenID Connect Discovery), whose *issuer* is its name (`discovery.py`).
- *Documents* are what is fetched on that way, from addresses that a stranger chose (`documents.py`, `reach.py`).
- *Credentials* prove to the token endpoint who the client is (`credentials.py`, `endpoint.py`).
- A `TokenSource` keeps the one token of an upstream alive (`tokens.py`). It is all that the rest of the gateway knows.

Only the client-credentials grant is spoken (RFC 6749, section 4.4): nobody is there to log in with a browser.
"""

from gateway_core.upstream.auth.challenge import Challenge
from gateway_core.upstream.auth.tokens import ATTEMPTS, TokenSource

__all__ = ["ATTEMPTS", "Challenge", "TokenSource"]
