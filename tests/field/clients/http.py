"""Clients whose HTTP is old, in one piece with the next, or in many.

Seen in embedded devices, in load generators, behind proxies, and in browsers.
"""

import json
from typing import Any

from tests.field.clients.raw import USUAL, Connection, call, client, initialize, post, request, send, session

BODY = json.dumps(initialize()).encode()


@client("`/mcp/` with a slash", 200)
def trailing_slash(port: int) -> Any:
    return post(port, initialize(), path="/mcp/").status


@client("a query behind the path", 200)
def query(port: int) -> Any:
    return post(port, initialize(), path="/mcp?tenant=a").status


@client("the whole address as the target", 200)
def absolute_target(port: int) -> Any:
    return post(port, initialize(), path=f"http://127.0.0.1:{port}/mcp").status


@client("HTTP/1.0", 200)
def http_1_0(port: int) -> Any:
    return post(port, initialize(), version="HTTP/1.0").status


@client("requests sent ahead of the answers to earlier ones", [1, 2, 3])
def pipelining(port: int) -> Any:
    headers = {**USUAL, **session(port)}
    with Connection(port) as connection:
        pings = [request(port, json.dumps(call("ping", number)).encode(), headers) for number in (1, 2, 3)]
        connection.socket.sendall(b"".join(pings))
        return [connection.answer().message["id"] for _ in pings]


@client("a request in pieces of one byte", 200)
def pieces(port: int) -> Any:
    with Connection(port) as connection:
        for byte in request(port, BODY, USUAL):
            connection.socket.sendall(bytes([byte]))
        return connection.answer().status


@client("a body in chunks", 200)
def chunks(port: int) -> Any:
    head = request(port, b"", {**USUAL, "Transfer-Encoding": "chunked"})
    body = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in (BODY[:10], BODY[10:]))
    return send(port, head + body + b"0\r\n\r\n").status


@client("`Connection: close`", (200, "close"))
def close(port: int) -> Any:
    answer = post(port, initialize(), {"Connection": "close"})
    return answer.status, answer.headers.get("connection")


@client("an empty line before a request", 400, "a request begins with its method; no client in use sends one")
def empty_line(port: int) -> Any:
    return send(port, b"\r\n" + request(port, BODY, USUAL)).status


@client("a connection that is closed without a request, and one in the middle of a request", 200)
def hang_up(port: int) -> Any:
    with Connection(port):
        pass
    with Connection(port) as connection:
        connection.socket.sendall(request(port, BODY, USUAL)[:60])
    return post(port, initialize()).status


@client("line ends without a carriage return", 400, "two parsers would read two requests in it")
def bare_line_feeds(port: int) -> Any:
    return send(port, request(port, BODY, USUAL).replace(b"\r\n", b"\n")).status


@client("two lengths", 400, "two parsers would find two bodies in it")
def two_lengths(port: int) -> Any:
    return send(port, request(port, BODY, {**USUAL, "content-length": "5"})).status


@client("a browser that opens the address", (200, "text/html"))
def browser(port: int) -> Any:
    accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    answer = send(port, request(port, b"", accept, verb="GET", path="/"), "GET")
    return answer.status, answer.headers.get("content-type", "").partition(";")[0]


@client("a page of this machine that asks before it sends (a preflight)", (204, True))
def preflight(port: int) -> Any:
    asked = {
        "Origin": "http://localhost:6274",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,mcp-session-id,mcp-protocol-version",
    }
    answer = send(port, request(port, b"", asked, verb="OPTIONS"), "OPTIONS")
    return answer.status, answer.headers.get("access-control-allow-origin") in {asked["Origin"], "*"}


@client("verbs that mean nothing here", [405, 405], "the endpoint knows POST, GET, DELETE and OPTIONS")
def other_verbs(port: int) -> Any:
    return [send(port, request(port, BODY, USUAL, verb=verb), verb).status for verb in ("PUT", "PATCH")]


@client("a path that does not exist", 404, "there is one endpoint")
def other_path(port: int) -> Any:
    return post(port, initialize(), path="/api/mcp").status
