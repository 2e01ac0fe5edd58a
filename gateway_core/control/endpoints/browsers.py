"""Browsers: how one gets a cookie and a page key, what its user may do, and how its session ends."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final, Literal, Protocol, TypedDict
from urllib.parse import urlencode

from aiohttp import web
from loguru import logger
from msgspec import Struct

from gateway_core.control.access import cookie_name
from gateway_core.control.browsers import CODE_TIME, SESSION_TIME, BrowserSessions
from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem, Right, WebPage

ENTER: Final = "/ui/enter"
DASHBOARD: Final = "/ui/"


class Listener(Protocol):
    """What these endpoints need from the listener."""

    @property
    def address(self) -> str:
        """Base URL of the control plane, to connect to."""

    @property
    def port(self) -> int: ...


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def browsers(self) -> BrowserSessions: ...
    @property
    def control(self) -> Listener: ...


class Me(TypedDict):
    """What the sender of the request may do, and the version of the gateway."""

    right: Literal["read", "change"]
    version: str


class Login(Struct, forbid_unknown_fields=True):
    """What the browser may do."""

    right: Literal["read", "change"] = "read"


class Code(TypedDict):
    """Where a browser enters, once and within some seconds. The address is a secret."""

    id: str
    url: str
    path: str
    seconds: float


class BrowserSession(TypedDict):
    """One browser that has entered."""

    id: str
    right: Right
    seconds: float


class Browsers(TypedDict):
    """The ids of the codes that no browser has used yet, and the browsers that have entered."""

    waiting: list[str]
    browsers: list[BrowserSession]


class LoggedOut(TypedDict):
    """Whether there was a browser session to end."""

    ended: bool


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The endpoints for browsers."""

    async def me(asked: Asked[None, None]) -> Me:
        return {"right": "change" if asked.right == "change" else "read", "version": version("gateway-core")}

    async def login(asked: Asked[None, Login]) -> Code:
        made = operations.browsers.issue(asked.body.right)
        path = f"{ENTER}?{urlencode({'code': made.secret})}"
        return {"id": made.id, "url": operations.control.address + path, "path": path, "seconds": CODE_TIME}

    async def browsers(_: Asked[None, None]) -> Browsers:
        found = operations.browsers.sessions()
        return {
            "waiting": operations.browsers.waiting(),
            "browsers": [{"id": it.id, "right": it.right, "seconds": round(left, 1)} for it, left in found],
        }

    async def logout(asked: Asked[None, None]) -> LoggedOut:
        return {"ended": operations.browsers.end(asked.browser)}

    async def enter(request: web.Request) -> web.StreamResponse:
        made = operations.browsers.enter(request.query.get("code", ""))
        if made is None:
            raise Problem(403, "this address was used, or is too old; `rad mcp proxy ui` opens a new one")
        logger.info("a browser may {} on the control plane for {:g} hours", made.right, SESSION_TIME / 3600)
        # browsers do not send fragments: the page takes the key out of the address
        location = f"{DASHBOARD}#key={made.page_key}"
        response = web.Response(status=303, headers={"Location": location, "Referrer-Policy": "no-referrer"})
        response.set_cookie(
            cookie_name(request), made.secret, max_age=int(SESSION_TIME), path="/", httponly=True, samesite="Strict"
        )
        return response

    return (
        Endpoint("GET", "/admin/me", "read", "What the sender of the request may do", Me, me),
        Endpoint(
            "POST",
            "/admin/browser-logins",
            "change",
            "Make an address at which one browser signs in",
            Code,
            login,
            body=Login,
        ),
        Endpoint("GET", "/admin/browser-logins", "change", "The browsers that may enter, or have", Browsers, browsers),
        Endpoint("POST", "/admin/browser-logout", "read", "End the session of this browser", LoggedOut, logout),
        WebPage(
            ENTER,
            "Give a browser its cookie and its page key",
            enter,
            {303: "The browser is signed in and goes to the dashboard", 403: "The code cannot be used"},
            head=False,
        ),
    )
