"""Clients that treat sessions in unusual ways.

Seen in clients that keep a session id over a restart, that are ended instead of closed, and in scripts with curl.
"""

from typing import Any

from tests.field.clients.raw import SESSION, USUAL, call, client, initialize, post, request, send, session

SESSIONS = 8
"""Sessions of one client in the gateway of the tests."""


@client("`initialize` that still has a session header of another gateway", (200, True))
def stale_header_on_initialize(port: int) -> Any:
    answer = post(port, initialize(), {SESSION: "gone-long-ago"})
    return answer.status, answer.headers.get("mcp-session-id", "gone-long-ago") != "gone-long-ago"


@client("`initialize` in a session that is open", 400, "a session is initialized once")
def initialize_again(port: int) -> Any:
    return post(port, initialize(), session(port)).status


@client("sessions that are never closed with DELETE", [200] * SESSIONS * 2)
def never_delete(port: int) -> Any:
    return [post(port, call("ping"), session(port)).status for _ in range(SESSIONS * 2)]


@client("DELETE twice", [204, 404])
def delete_twice(port: int) -> Any:
    headers = session(port)
    return [send(port, request(port, b"", headers, verb="DELETE"), "DELETE").status for _ in range(2)]


@client("a request in a session that does not exist", 404)
def unknown_session(port: int) -> Any:
    return post(port, call("ping"), {SESSION: "gone-long-ago"}).status


@client("a request before `notifications/initialized`", 200)
def no_initialized(port: int) -> Any:
    opened = post(port, initialize())
    return post(port, call("tools/list"), {SESSION: opened.headers["mcp-session-id"]}).status


@client("no `MCP-Protocol-Version` in a session", 200)
def no_version(port: int) -> Any:
    headers = session(port)
    headers.pop("MCP-Protocol-Version")
    return post(port, call("tools/list"), headers).status


@client("a request without session and without `initialize`", 400, "it says neither which session nor which revision")
def no_session(port: int) -> Any:
    return post(port, call("tools/list")).status


@client("GET without a session", 400, "a stream belongs to a session")
def get_without_session(port: int) -> Any:
    headers = {"Accept": USUAL["Accept"]}
    return send(port, request(port, b"", headers, verb="GET"), "GET").status
