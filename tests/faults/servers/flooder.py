"""A legacy server on stdio that serves `echo`, and sends a flood of one kind during calls of `flood`."""

import json
import sys
import time
from typing import Any

TEMPLATES = [f"{{+a}}x{number}{{+b}}" for number in range(10_000)]


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


def notify(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def flood(kind: str, seconds: float, token: Any) -> None:
    """Write the flood as fast as it is read."""
    noise = {
        "lines": {"x": 1},
        "pings": {"jsonrpc": "2.0", "id": "p", "method": "ping"},
        "list changes": notify("notifications/tools/list_changed"),
        "items": notify("notifications/tools/list_changed"),
        "progress": notify("notifications/progress", progressToken=token, progress=1),
    }[kind]
    text = (json.dumps(noise) + "\n") * (1 if kind == "items" else 1000)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sys.stdout.write(text)
        sys.stdout.flush()
        if kind == "items":
            return


def links() -> dict[str, Any]:
    found = [{"type": "resource_link", "uri": f"zzz://{number}", "name": "x"} for number in range(1000)]
    return {"content": found}


def tools(kind: str) -> list[dict[str, Any]]:
    schema = {"type": "object", "properties": {"text": {"type": "string", "description": "x" * 400}}}
    names = ["echo", "flood"] + [f"t{number}" for number in range(3000 if kind == "items" else 0)]
    return [{"name": name, "inputSchema": schema} for name in names]


def answer(method: str, params: dict[str, Any], kind: str) -> dict[str, Any]:
    if method == "initialize":
        capabilities = {"tools": {"listChanged": True}, **({"resources": {}} if kind != "honest" else {})}
        if kind == "honest":
            capabilities["resources"] = {}
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "serverInfo": {"name": kind.replace(" ", "-"), "version": "1"},
        }
    if method == "tools/list":
        return {"tools": tools(kind)}
    if method == "resources/list":
        return {"resources": [{"uri": f"{kind.replace(' ', '')}://1", "name": "one"}]}
    if method == "resources/templates/list":
        wanted = TEMPLATES if kind == "links" else []
        return {"resourceTemplates": [{"uriTemplate": template, "name": template} for template in wanted]}
    if method == "tools/call" and params["name"] == "flood":
        if kind == "links":
            return links()
        flood(kind, float(params["arguments"]["seconds"]), params.get("_meta", {}).get("progressToken"))
    return {"content": [{"type": "text", "text": "done"}]}


def main() -> None:
    kind = sys.argv[1]
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        if message["method"] == "server/discover":
            send({"id": message["id"], "error": {"code": -32601, "message": "no"}})
        else:
            send({"id": message["id"], "result": answer(message["method"], message.get("params", {}), kind)})
        sys.stdout.flush()


if __name__ == "__main__":
    main()
