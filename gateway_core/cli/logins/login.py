"""`rad mcp proxy login`: a person logs in with a browser, and the gateway keeps the tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from yarl import URL

from gateway_core.cli.client import fetch
from gateway_core.cli.hints import command
from gateway_core.cli.logins.browser import has_browser, open_browser
from gateway_core.cli.logins.callback import Callback
from gateway_core.cli.logins.targets import Target, find, opened
from gateway_core.cli.rendering.pages import login_note
from gateway_core.cli.report import Failed, put, say
from gateway_core.cli.running import NotAnswering, instance_of
from gateway_core.errors import DeliveryError
from gateway_core.files import Unusable
from gateway_core.log.escaping import escape
from gateway_core.log.wording import count
from gateway_core.upstream.auth.code_flow import CodeFlow
from gateway_core.upstream.auth.documents import Refused
from gateway_core.upstream.auth.logins import GATEWAY, Login, Logins
from gateway_core.upstream.auth.registration import reusable
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.login_probe import challenge_of

WAIT: Final = 300.0
"""Seconds that the person has to log in."""
CONFIRMATION: Final = 20.0
"""Seconds to wait until a running gateway uses the login."""


def login(config: Path | None, name: str, *, browser: bool) -> None:
    """Log in at the upstream `name`. Raises `Failed`.

    `browser`: open a browser; otherwise only print the address.
    """
    target = find(config, name)
    made = asyncio.run(_login(target, browser=browser))
    where = f" at {made.issuer}" if made.issuer else ""
    put(f"logged in to {name}{escape(where)}; the login is kept in {escape(str(target.file))}")
    _confirm(target)


async def _login(target: Target, *, browser: bool) -> Login:
    upstream, logins = target.upstream, await opened(target)
    http = HttpClient(upstream.model_copy(update={"auth": None}), target.config.proxy.limits)
    flow = CodeFlow(http.url, target.auth, http.access, logins.of(GATEWAY, upstream.name))
    made: list[Login] = []

    async def finish(query: Mapping[str, Sequence[str]]) -> None:
        found = await flow.finish(query)
        await logins.change(GATEWAY, upstream.name, lambda _: found)
        made.append(found)

    callback = Callback(upstream.name, finish)
    try:
        challenge = await challenge_of(http, is_sse=upstream.transport == "sse")
        redirect_uri = await _listening(callback, target, logins)
        address = await flow.begin(challenge, redirect_uri)
        _show(upstream.name, address, browser=browser)
        await callback.wait(WAIT)
    except DeliveryError as problem:
        raise Failed(f"upstream {upstream.name} cannot be asked how to log in: {problem.reason}") from None
    except Refused as failure:
        raise Failed(f"no login at upstream {upstream.name}: {failure}") from None
    except TimeoutError:
        raise Failed(
            f"no login at upstream {upstream.name}: the browser did not come back within {WAIT / 60:g} minutes\n"
            f"  if it showed that the client is unknown, forget the client: {command(f'logout {upstream.name}')}"
        ) from None
    except Unusable as problem:
        raise Failed(f"the login cannot be stored in {target.file}: {problem}") from None
    finally:
        await callback.close()
        await flow.close()
        await http.close()
    return made[0]


async def _listening(callback: Callback, target: Target, logins: Logins) -> str:
    """The redirect URI, at which `callback` listens: with the port that is registered, if there is one."""
    last, wanted = logins.of(GATEWAY, target.upstream.name), target.auth.redirect_uri
    registered = (URL(last.client.redirect_uri).port or 0) if last is not None and reusable(last, last.issuer) else 0
    try:
        return await callback.start(wanted, registered)
    except OSError as error:
        if not registered or URL(wanted).explicit_port is not None:
            raise Failed(f"cannot listen for the browser at {wanted}: {error.strerror}") from None
    return await callback.start(wanted)


def _show(name: str, address: URL, *, browser: bool) -> None:
    """Open the address in a browser, or print it."""
    if not browser:
        say(f"to log in to {name}, open this address in a browser on this machine:")
        put(str(address))
        return
    say(f"opening a browser to log in to {name}; if none opens, go to:\n  {address}")
    if has_browser():
        open_browser(str(address))


def _confirm(target: Target) -> None:
    """Wait until a running gateway uses the login, and print how it went."""
    name = target.upstream.name
    assert target.config.path is not None, "it was read from a file"
    try:
        instance = instance_of(target.config.path)
        if instance is None:
            put(f"the gateway does not run; to start it: {command('start')}")
            return
        found: dict[str, Any] = {}
        deadline = time.monotonic() + CONFIRMATION
        while time.monotonic() < deadline:
            found = next((it for it in fetch(instance, "status")["upstreams"] if it["name"] == name), {})
            if found.get("state") == "healthy" and not found["login"]["needed"]:
                put(f"the running gateway uses it: {count(found['tools'], 'tool')}")
                return
            time.sleep(0.25)
    except (NotAnswering, Failed) as problem:
        put(f"the gateway does not say whether it uses the login: {escape(str(problem))}")
        return
    if not found:
        put(f"the running gateway does not have upstream {name} yet; restart it")
        return
    note = login_note(found) if found["login"] is not None and found["login"]["needed"] else found["last_error"]
    raise Failed(f"the running gateway does not reach {name} with it: {note or found['state']}")
