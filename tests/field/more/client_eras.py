"""A client that speaks every revision in turn on one connection, leaving sessions behind; prints the answers."""

import json
import socket
import sys

from wire import begin, http

PORT = int(sys.argv[1])
SOCK = socket.create_connection(("127.0.0.1", PORT), 20)
META = {
    f"io.modelcontextprotocol/{name}": value
    for name, value in {
        "protocolVersion": "2026-07-28",
        "clientInfo": {"name": "odd", "version": "1"},
        "clientCapabilities": {},
    }.items()
}


def modern(method, params, headers=()):
    name = [f"Mcp-Name: {params['name']}"] if "name" in params else []
    message = {"jsonrpc": "2.0", "id": "m", "method": method, "params": {**params, "_meta": META}}
    return http(
        PORT, message, headers=["MCP-Protocol-Version: 2026-07-28", f"Mcp-Method: {method}", *name, *headers], sock=SOCK
    )


def legacy(session, ident=1, name="banner:echo"):
    params = {"name": name, "arguments": {"é": 1}}
    return http(
        PORT, {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}, headers=session, sock=SOCK
    )


def short(answer):
    return [answer[0], answer[2]]


got, sessions = {}, {}
for version in ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"):
    sessions[version] = begin(PORT, version, sock=SOCK)
    got[version] = short(legacy(sessions[version]))
    got[version + " then modern"] = short(modern("tools/call", {"name": "banner:echo", "arguments": {"é": 1}}))
    got[version + " again"] = short(legacy(sessions[version][:1]))
first = sessions["2025-06-18"]
got["modern with session"] = short(modern("tools/list", {}, first[:1]))[:1]
got["modern with stale session"] = short(modern("tools/list", {}, ["Mcp-Session-Id: no-such"]))[:1]
got["discover"] = short(modern("server/discover", {}))[:1]
got["other version header"] = short(legacy([first[0], "MCP-Protocol-Version: 2025-03-26"]))
got["unknown version header"] = short(legacy([first[0], "MCP-Protocol-Version: 1999-01-01"]))
got["stale"] = short(legacy(["Mcp-Session-Id: no-such"]))
got["none"] = short(legacy([]))
batch = [{"jsonrpc": "2.0", "id": n, "method": "ping"} for n in (1, "1")] + [
    {"jsonrpc": "2.0", "method": "notifications/x"}
]
got["batch"] = short(http(PORT, batch, headers=sessions["2025-03-26"], sock=SOCK))
got["batch newer"] = short(http(PORT, batch, headers=first, sock=SOCK))
got["batch empty"] = short(http(PORT, [], headers=sessions["2025-03-26"], sock=SOCK))
got["initialize again"] = short(
    http(
        PORT,
        {
            "jsonrpc": "2.0",
            "id": 9,
            "method": "initialize",
            "params": {
                "protocolVersion": "2031-01-01",
                "capabilities": {},
                "clientInfo": {"name": "odd", "version": "1"},
            },
        },
        headers=first,
        sock=SOCK,
    )
)
got["after"] = short(legacy(first))
print(json.dumps(got))
