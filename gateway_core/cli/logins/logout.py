"""`rad mcp proxy logout`: revokes the tokens of a login, and deletes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final

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

MAX_SHOWN: Final = 20
"""Users that a message names."""


def logout(config: Path | None, name: str, who: str | None) -> None:
    """Revoke and delete the login at the upstream `name`. `who`: the user whose login it is. Raises `Failed`."""
    target = find(config, name)
    identity, kept = asyncio.run(_logout(target, who))
    if kept:
        say(f"warning: the tokens were deleted, but not revoked: {escape(kept)}")
    put(f"logged out of {name}{'' if identity == GATEWAY else escape(f' as {identity}')}")


async def _logout(target: Target, who: str | None) -> tuple[str, str]:
    """Returns whose login has ended, and why the tokens could not be revoked; empty if they were."""
    name, logins = target.upstream.name, await opened(target)
    known = logins.at(name)
    identity = GATEWAY if who is None else _identity(who, known)
    login = known.get(identity)
    if login is None:
        whose = "" if who is None else escape(f" of {who}")
        users = sorted(escape(it) for it in known if it != GATEWAY)
        others = f"\n  users with a login: {', '.join(users[:MAX_SHOWN])}; end one with --as" if users else ""
        raise Failed(f"there is no login{whose} at upstream {name}{others}")
    problem = await _revoke(target, login)
    try:
        await logins.change(identity, name, lambda _: None)
    except Unusable as unusable:
        raise Failed(f"the login cannot be deleted from {target.file}: {unusable}") from None
    return identity, problem


def _identity(who: str, known: Iterable[str]) -> str:
    """The identity that the operator means: its whole id, or its subject if that is unambiguous. Raises `Failed`."""
    found = [identity for identity in known if identity == who] or [
        identity for identity in known if identity.rpartition("|")[0] == who
    ]
    if len(found) > 1:
        raise Failed(f"several users have this subject: {', '.join(map(escape, sorted(found)))}; give one of these")
    return found[0] if found else ""


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
