"""Which of the suite's client scenarios the gateway is put through, and why the others are not.

The sets are the suite's own (`requirements/*.yaml` in its package). Each scenario in them is in exactly one of these:
driven in full (everything that is not named here), driven in part, or excluded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

REVISIONS: Final = ("2025-11-25", "2026-07-28")

EXTENSIONS: Final = ("auth/client-credentials-basic", "auth/client-credentials-jwt", "json-schema-2020-12-preservation")
"""Optional or newer than the sets, and about what the gateway does: driven in full, reported, not counted."""

_BROWSER: Final = "the suite judges the request to the authorization endpoint, which a user's browser makes"
_REGISTER: Final = "the gateway's clients are registered beforehand, not by the gateway"

IN_PART: Final = {
    "auth/metadata-default": ("prm-pathbased-requested", "authorization-server-metadata", "token-request"),
    "auth/metadata-var1": ("prm-pathbased-requested", "authorization-server-metadata", "token-request"),
    "auth/metadata-var2": ("authorization-server-metadata", "token-request"),
    "auth/metadata-var3": ("authorization-server-metadata", "token-request"),
    "auth/token-endpoint-auth-basic": ("token-endpoint-auth-method", "resource-parameter-in-token"),
    "auth/token-endpoint-auth-post": ("token-endpoint-auth-method", "resource-parameter-in-token"),
    "auth/token-endpoint-auth-none": ("token-endpoint-auth-method", "resource-parameter-in-token"),
}
"""Scenarios that also want a browser login, not counted. These of their checks need none, and must succeed."""

OF_THE_LOGIN: Final = {"client-registration", "authorization-request", "resource-parameter-in-authorization"}
"""The checks of scenarios `IN_PART` that may fail: they are about the login."""

EXCLUDED: Final = {
    **dict.fromkeys(IN_PART, f"wants a registration and a login besides; driven in part: {_BROWSER}, and {_REGISTER}"),
    "auth/basic-cimd": f"{_BROWSER}; the gateway publishes no client metadata document",
    "auth/scope-from-www-authenticate": _BROWSER,
    "auth/scope-from-scopes-supported": _BROWSER,
    "auth/scope-omitted-when-undefined": _BROWSER,
    "auth/scope-step-up": f"{_BROWSER}; its tokens have only scopes that were asked for there",
    "auth/scope-retry-limit": f"it counts authorization requests: {_BROWSER}",
    "auth/offline-access-scope": f"{_BROWSER}; client credentials have no refresh tokens",
    "auth/offline-access-not-supported": f"{_BROWSER}; client credentials have no refresh tokens",
    "auth/authorization-server-migration": f"it wants a new registration at the new server: {_REGISTER}",
    "auth/iss-supported": f"iss is in the answer to a login: {_BROWSER}",
    "auth/iss-not-advertised": f"iss is in the answer to a login: {_BROWSER}",
    "auth/iss-supported-missing": f"iss is in the answer to a login: {_BROWSER}",
    "auth/iss-wrong-issuer": f"iss is in the answer to a login: {_BROWSER}",
    "auth/iss-unexpected": f"iss is in the answer to a login: {_BROWSER}",
    "auth/iss-normalized": f"iss is in the answer to a login: {_BROWSER}",
    "auth/enterprise-managed-authorization": "not counted by the suite: an extension with grants of its own",
    "auth/wif-jwt-bearer": "not counted by the suite: an extension with a grant of its own",
    "auth/dpop": "not counted by the suite: an extension that binds tokens to keys, at the end of a login",
    "auth/dpop-nonce": "not counted by the suite: an extension that binds tokens to keys, at the end of a login",
}
"""Scenario -> why it is not counted. What is refused there is held by tests/upstream/test_auth_*.py instead."""


def required(package: Path, revision: str) -> list[str]:
    """The client scenarios that conformance to `revision` requires, as the suite's package says."""
    text = (package / "requirements" / f"{revision}.yaml").read_text(encoding="utf-8")
    return list(_items(text, "client"))


def _items(text: str, key: str) -> Iterator[str]:
    """The entries of one of the file's flat lists."""
    inside = False
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            inside = line == f"{key}:"
        elif inside and line.startswith("  - "):
            yield line.removeprefix("  - ").strip()
