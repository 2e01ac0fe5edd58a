"""A legacy server on stdio whose tool asks the user of the call."""

from __future__ import annotations

import json
import sys
from typing import Any

SUBJECT = {"type": "object", "properties": {"subject": {"type": "string"}}, "required": ["subject"]}
CONSENT = {
    "type": "object",
    "properties": {"agreed": {"type": "boolean"}, "name": {"type": "string", "description": "Your name"}},
    "required": ["agreed", "name"],
}


def send(**members: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **members}) + "\n")
    sys.stdout.flush()


calls: dict[str, Any] = {}
for line in sys.stdin:
    message = json.loads(line)
    match message.get("method"):
        case "initialize":
            capabilities, info = {"tools": {}}, {"name": "asking", "version": "1"}
            result = {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info}
            send(id=message["id"], result=result)
        case "tools/list":
            tool = {"name": "consent", "description": "Ask the user for consent.", "inputSchema": SUBJECT}
            send(id=message["id"], result={"tools": [tool]})
        case "tools/call":
            question = f"question-{len(calls)}"
            calls[question] = message["id"]
            text = f"Do you agree to {message['params']['arguments']['subject']}?"
            send(id=question, method="elicitation/create", params={"message": text, "requestedSchema": CONSENT})
        case "ping":
            send(id=message["id"], result={})
        case None if message.get("id") in calls:
            answer = message.get("result", {})
            content = answer.get("content") or {}
            said = f"{content['name']}: {content['agreed']}" if content else f"no: {answer.get('action')}"
            send(id=calls.pop(message["id"]), result={"content": [{"type": "text", "text": said}]})
        case _ if "method" in message and "id" in message:
            send(id=message["id"], error={"code": -32601, "message": "not found"})
