"""What happens to a login: whether it can be used, its renewal, and its end."""

from __future__ import annotations

import math
import time

from msgspec.structs import replace
from yarl import URL

from gateway_core.config import AuthConfig
from gateway_core.upstream.auth.endpoint import EndpointAnswer
from gateway_core.upstream.auth.logins import Login


def why_unusable(login: Login | None, url: URL, config: AuthConfig) -> str:
    """Why a login cannot be used for an upstream with this configuration; empty if it can."""
    if login is None:
        return "there is no login"
    has_expired = login.expires_at is not None and login.expires_at <= time.time()
    reasons = {
        login.ended: bool(login.ended),
        "the login is for another url": login.url != str(url),
        "the login belongs to another client_id": config.client_id not in (None, login.client.id),
        "the login is at another issuer": config.issuer not in (None, login.issuer),
        "the login has expired": has_expired and not login.refresh_token,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def is_same(found: Login | None, login: Login) -> bool:
    """Whether a login in the file has the same tokens."""
    return found is not None and (found.since, found.access_token, found.refresh_token) == (
        login.since,
        login.access_token,
        login.refresh_token,
    )


def renewed(login: Login, answer: EndpointAnswer) -> Login:
    """The login with the tokens of an answer."""
    return replace(
        login,
        access_token=answer.access_token,
        refresh_token=answer.refresh or login.refresh_token,
        expires_at=time.time() + answer.life if answer.life < math.inf else None,
        scopes=answer.granted or login.scopes,
        renewed=time.time(),
    )


def is_end(login: Login, code: str) -> bool:
    """Whether an error code says that the login or its registered client is over."""
    is_client = code in {"invalid_client", "unauthorized_client"}
    return code == "invalid_grant" or (is_client and login.client.kind == "registered")


def over(login: Login, code: str) -> Login:
    """The login after its end, without tokens; a client that was refused is not used again."""
    client = login.client if code == "invalid_grant" else replace(login.client, expires_at=1.0)
    ended = f"the authorization server ended it ({code})"
    return replace(login, ended=ended, access_token="", refresh_token="", client=client)
