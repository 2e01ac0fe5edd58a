"""Clients whose JSON-RPC is unusual.

Seen in clients of languages that write absent values as null, in those of older revisions, and in scripts.
"""

from typing import Any

from tests.field.clients.raw import call, client, initialize, post, session

ALL = ["usual-plain_echo", "usual-plain_add"]
ECHO = {"name": "usual-plain_echo", "arguments": {"text": "hello"}}


@client("`params: null` in a request", ALL)
def params_null(port: int) -> Any:
    return post(port, call("tools/list", params=None), session(port)).tools


@client("`params: []` in a request", ALL)
def params_list(port: int) -> Any:
    return post(port, call("tools/list", params=[]), session(port)).tools


@client("no `params` in a request", ALL)
def params_missing(port: int) -> Any:
    return post(port, call("tools/list"), session(port)).tools


@client("`id: null` in a notification", 202)
def id_null_in_a_notification(port: int) -> Any:
    return post(port, call("notifications/initialized", None), session(port)).status


@client("`params: null` in a notification", 202)
def params_null_in_a_notification(port: int) -> Any:
    note = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed", "params": None}
    return post(port, note, session(port)).status


@client("`arguments: null` in a call", "")
def arguments_null(port: int) -> Any:
    params = {**ECHO, "arguments": None}
    return post(port, call("tools/call", params=params), session(port)).message["result"]["content"][0]["text"]


@client("`_meta: null` in a call", "hello")
def meta_null(port: int) -> Any:
    params = {**ECHO, "_meta": None}
    return post(port, call("tools/call", params=params), session(port)).message["result"]["content"][0]["text"]


@client("`cursor: null` in a list", ALL)
def cursor_null(port: int) -> Any:
    return post(port, call("tools/list", params={"cursor": None}), session(port)).tools


@client("ids that are texts, negative, or larger than 53 bits", ["a/ä", -1, 2**60])
def unusual_ids(port: int) -> Any:
    headers = session(port)
    return [post(port, call("ping", number), headers).message["id"] for number in ("a/ä", -1, 2**60)]


@client("further members beside those of JSON-RPC", ALL)
def extra_members(port: int) -> Any:
    return post(port, call("tools/list", params={"own": 1}, trace="a", auth=None), session(port)).tools


@client("white space and line ends around a message", ALL)
def white_space(port: int) -> Any:
    body = b'\r\n\t {"jsonrpc" : "2.0",\r\n "id": 1, "method": "tools/list"}\r\n\r\n'
    return post(port, body, session(port)).tools


@client("a byte order mark before a message", 400, "JSON that is sent has none (RFC 8259, 8.1)")
def byte_order_mark(port: int) -> Any:
    return post(port, b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"tools/list"}', session(port)).status


@client("a batch, where 2025-03-26 was negotiated", [(1, True), (2, True)])
def batch_of_2025_03_26(port: int) -> Any:
    answer = post(port, [call("ping", 1), call("tools/list", 2)], session(port, "2025-03-26"))
    return sorted((it["id"], "result" in it) for it in answer.message)


@client("a batch of notifications, where 2025-03-26 was negotiated", 202)
def batch_of_notifications(port: int) -> Any:
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    return post(port, [note, note], session(port, "2025-03-26")).status


@client("a batch, where a later revision was negotiated", 400, "2025-06-18 removed batches")
def batch_of_2025_11_25(port: int) -> Any:
    return post(port, [call("ping", 1), call("ping", 2)], session(port)).status


@client("`initialize` without `capabilities` and `clientInfo`", 200)
def bare_initialize(port: int) -> Any:
    return post(port, call("initialize", params={"protocolVersion": "2025-06-18"})).status


@client("`initialize` of a revision that does not exist", "2025-11-25")
def unknown_revision(port: int) -> Any:
    return post(port, initialize("2025-01-01")).message["result"]["protocolVersion"]


@client("a member that is given twice", 400, "two parsers would read two requests in it")
def doubled_member(port: int) -> Any:
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}'
    return post(port, body, session(port)).status


@client("a text that is no JSON, and an empty one", [400, 400], "there is no request in it")
def no_json(port: int) -> Any:
    headers = session(port)
    return [post(port, body, headers).status for body in (b"hello", b"")]
