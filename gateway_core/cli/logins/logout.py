"""`rad mcp proxy logout`: revokes the tokens of a login, and deletes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway_core.cli.logins.targets import Target, find, opened
from gateway_core.cli.report import Failed, put, say
from gateway_core.errors import DeliveryError
from gateway_core.files import Unusable
from gateway_core.log.escaping import escape
from gateway_core.upstream.auth.code_flow import revoke_login
from gateway_core.upstream.auth.documents import Refused
from gateway_core.upstream.auth.logins import GATEWAY, Login
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.login_probe import challenge_of


def logout(config: Path | None, name: str) -> None:
    """Revoke and delete the login at the upstream `name`. Raises `Failed`."""
    target = find(config, name)
    kept = asyncio.run(_logout(target))
    if kept:
        say(f"warning: the tokens were deleted, but not revoked: {escape(kept)}")
    put(f"logged out of {name}")


async def _logout(target: Target) -> str:
    """Returns why the tokens could not be revoked; empty if they were."""
    name, logins = target.upstream.name, await opened(target)
    login = logins.of(GATEWAY, name)
    if login is None:
        raise Failed(f"there is no login at upstream {name}")
    problem = await _revoke(target, login)
    try:
        await logins.change(GATEWAY, name, lambda _: None)
    except Unusable as unusable:
        raise Failed(f"the login cannot be deleted from {target.file}: {unusable}") from None
    return problem


async def _revoke(target: Target, login: Login) -> str:
    http = HttpClient(target.upstream.model_copy(update={"auth": None}), target.config.proxy.limits)
    try:
        # The addresses of the upstream decide at which ones its authorization server may be.
        await challenge_of(http, is_sse=target.upstream.transport == "sse")
        await revoke_login(http.url, target.auth, http.access, login)
    except (DeliveryError, Refused) as failure:
        return str(failure)
    finally:
        await http.close()
    return ""
