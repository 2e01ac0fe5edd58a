"""Clients whose headers are few, unusual, or those of a browser.

Seen in scripts, in clients for other protocols, and in pages that an attacker wrote.
"""

import json
from typing import Any

from tests.field.clients.raw import USUAL, Connection, call, client, initialize, post, request, send, session

BODY = json.dumps(initialize()).encode()
JSON = {"Content-Type": "application/json"}


def opened(port: int, headers: dict[str, str]) -> int:
    """The status that `initialize` gets with these headers alone."""
    return send(port, request(port, BODY, headers)).status


@client("no `Accept`", 200)
def no_accept(port: int) -> Any:
    return opened(port, JSON)


@client("`Accept: */*`", 200)
def accept_anything(port: int) -> Any:
    return opened(port, {**JSON, "Accept": "*/*"})


@client("`Accept` with one of the two types, or with weights", [200, 200, 200])
def accept_one(port: int) -> Any:
    values = ("application/json", "text/event-stream", "application/json;q=0.9, text/event-stream;q=0.1, */*;q=0.01")
    return [opened(port, {**JSON, "Accept": value}) for value in values]


@client("names of headers in lower case and in upper case", [200, 200])
def case_of_names(port: int) -> Any:
    lower = {name.lower(): value for name, value in USUAL.items()}
    return [opened(port, lower), opened(port, {name.upper(): value for name, value in USUAL.items()})]


@client("`Content-Type` with a charset, and in other case", [200, 200, 200])
def content_types(port: int) -> Any:
    values = ("application/json; charset=utf-8", 'application/json;charset="UTF-8"', "Application/JSON")
    return [opened(port, {**USUAL, "Content-Type": value}) for value in values]


@client("another `Content-Type`, or none", [415, 415], "any web page may send such a request without a preflight")
def other_content_type(port: int) -> Any:
    plain = opened(port, {**USUAL, "Content-Type": "text/plain"})
    return [plain, opened(port, {"Accept": USUAL["Accept"]})]


@client("`Origin` of a page on this machine", [200, 200])
def loopback_origin(port: int) -> Any:
    return [opened(port, {**USUAL, "Origin": origin}) for origin in ("http://localhost:6274", "http://127.0.0.1:8080")]


@client("`Origin` of another site", [403, 403], "a page could use the gateways of its visitors")
def foreign_origin(port: int) -> Any:
    return [opened(port, {**USUAL, "Origin": origin}) for origin in ("https://evil.example", "null")]


@client("`Host` in another case, and without a port", [200, 200])
def hosts(port: int) -> Any:
    return [opened(port, {**USUAL, "Host": host}) for host in (f"LOCALHOST:{port}", "localhost")]


@client("`Host` of another site", 403, "a name that an attacker points at this machine (DNS rebinding)")
def foreign_host(port: int) -> Any:
    return opened(port, {**USUAL, "Host": f"evil.example:{port}"})


@client("`Expect: 100-continue`", (100, 200))
def expect(port: int) -> Any:
    with Connection(port) as connection:
        connection.socket.sendall(request(port, BODY, {**USUAL, "Expect": "100-continue"}).removesuffix(BODY))
        first = connection.socket.recv(4096).split(b" ")[1]
        connection.socket.sendall(BODY)
        return int(first), connection.answer().status


@client("an empty `Mcp-Session-Id`", 200)
def empty_session(port: int) -> Any:
    return opened(port, {**USUAL, "Mcp-Session-Id": ""})


@client("white space around the values of headers", 200)
def white_space_in_headers(port: int) -> Any:
    return opened(port, {name: f" \t{value} \t" for name, value in USUAL.items()})


@client("many headers of a browser and of a tracer", 200)
def many_headers(port: int) -> Any:
    more = {f"X-Own-{number}": "a" * 20 for number in range(40)}
    return post(port, call("tools/list"), {**session(port), **more, "Sec-Fetch-Mode": "cors", "Cookie": "a=b"}).status
