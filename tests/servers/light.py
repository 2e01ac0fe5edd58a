"""A small MCP server on stdio for tests that start many servers: one starts in a twentieth of a second.

It speaks both eras in the shape of the official SDK's servers, and loads nothing but a few modules of the standard
library. Tests of the exchange with a server use the SDK's servers.
"""

import json
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

_SERVER_INFO = "io.modelcontextprotocol/serverInfo"
_VERSION = "io.modelcontextprotocol/protocolVersion"
_TYPES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_ACCEPTED: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float), bool: (bool,)}
_CACHED = {"server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"}
_CACHED |= {"resources/read"}


class Refused(Exception):
    """Answers a request with a JSON-RPC error: `Refused(code, message)`."""


class Call:
    """The request that a tool answers. A tool whose first parameter is of this class gets it."""

    def __init__(self, server: "Light", token: Any) -> None:
        self.cancelled = threading.Event()
        self._server, self._token = server, token

    def progress(self, done: float, total: float, message: str) -> None:
        """Report progress, if the client wants it."""
        if self._token is not None:
            params = {"progressToken": self._token, "progress": done, "total": total, "message": message}
            self._server.write({"method": "notifications/progress", "params": params})


class Light:
    """The server. Annotations of its functions give the schemas; defaults make arguments optional."""

    def __init__(self, name: str, version: str = "1.0.0", instructions: str = "") -> None:
        self.info = {"name": name, "version": version}
        self.instructions = instructions
        self._tools: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {}
        self._prompts: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {}
        self._resources: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {}
        self._calls: dict[Any, Call] = {}
        self._writing = threading.Lock()

    def tool(self, function: Callable[..., Any], name: str = "") -> Callable[..., Any]:
        """Offer a function that returns a text, or a list of content blocks."""
        name = name or function.__name__
        definition = {"name": name, "description": function.__doc__ or "", "inputSchema": _schema(function)}
        self._tools[name] = definition, function
        return function

    def prompt(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Offer a prompt: a function that returns a text, or a list of messages."""
        schema = _schema(function)
        arguments = [{"name": name, "required": name in schema["required"]} for name in schema["properties"]]
        name = function.__name__
        definition = {"name": name, "description": function.__doc__ or "", "arguments": arguments}
        self._prompts[name] = definition, function
        return function

    def resource(self, uri: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
        """Offer a text; `{name}` in `uri` makes a template with that argument."""

        def add(function: Callable[..., str]) -> Callable[..., str]:
            key = "uriTemplate" if "{" in uri else "uri"
            about = {"name": function.__name__, "description": function.__doc__ or "", "mimeType": "text/plain"}
            self._resources[uri] = {key: uri, **about}, function
            return function

        return add

    def run(self) -> None:
        """Serve until stdin ends. Each call of a tool has a thread, so that others need not wait for it."""
        for line in sys.stdin:
            message = json.loads(line)
            method, params = message.get("method"), message.get("params") or {}
            if method == "notifications/cancelled":
                if (call := self._calls.get(params["requestId"])) is not None:
                    call.cancelled.set()
            elif method == "tools/call":
                token = params.get("_meta", {}).get("progressToken")
                self._calls[message["id"]] = call = Call(self, token)
                threading.Thread(target=self._answer, args=(message, call), daemon=True).start()
            elif method is not None and "id" in message:
                self._answer(message, None)

    def write(self, message: dict[str, Any]) -> None:
        """Send a message."""
        data = json.dumps({"jsonrpc": "2.0", **message})
        with self._writing:
            sys.stdout.write(data + "\n")
            sys.stdout.flush()

    def _answer(self, message: dict[str, Any], call: Call | None) -> None:
        method, params = message["method"], message.get("params") or {}
        try:
            result = self.result(method, params, call)
        except Refused as refused:
            self.write({"id": message["id"], "error": dict(zip(("code", "message"), refused.args, strict=True))})
            return
        finally:
            self._calls.pop(message["id"], None)
        if call is not None and call.cancelled.is_set():
            return
        if _VERSION in params.get("_meta", {}):
            result |= {"resultType": "complete", "_meta": {_SERVER_INFO: self.info}}
            if method in _CACHED:
                result |= {"ttlMs": 0, "cacheScope": "private"}
        self.write({"id": message["id"], "result": result})

    def result(self, method: str, params: dict[str, Any], call: Call | None) -> dict[str, Any]:
        """The result of a request. Raises `Refused`."""
        match method:
            case "initialize":
                return {"protocolVersion": params["protocolVersion"], "serverInfo": self.info, **self._about()}
            case "server/discover":
                return {"supportedVersions": ["2026-07-28"], **self._about()}
            case "ping":
                return {}
            case "tools/list":
                return {"tools": [definition for definition, _ in self._tools.values()]}
            case "prompts/list":
                return {"prompts": [definition for definition, _ in self._prompts.values()]}
            case "resources/list":
                return {"resources": [it for it, _ in self._resources.values() if "uri" in it]}
            case "resources/templates/list":
                return {"resourceTemplates": [it for it, _ in self._resources.values() if "uriTemplate" in it]}
            case "tools/call":
                return self._called(params["name"], params.get("arguments") or {}, call)
            case "prompts/get":
                return self._prompted(params["name"], params.get("arguments") or {})
            case "resources/read":
                return self._read(params["uri"])
        raise Refused(-32601, "Method not found")

    def _about(self) -> dict[str, Any]:
        parts = {"tools": self._tools, "prompts": self._prompts, "resources": self._resources}
        about: dict[str, Any] = {"capabilities": {name: {} for name, offered in parts.items() if offered}}
        return about | ({"instructions": self.instructions} if self.instructions else {})

    def _called(self, name: str, arguments: dict[str, Any], call: Call | None) -> dict[str, Any]:
        if name not in self._tools:
            return _content(f"Unknown tool: {name}", failed=True)
        definition, function = self._tools[name]
        first = next(iter(function.__annotations__.values()), None)
        try:
            _check(definition["inputSchema"], function, arguments)
            return _content(function(call, **arguments) if first is Call else function(**arguments))
        except Exception as error:
            return _content(f"Error executing tool {name}: {error}", failed=True)

    def _prompted(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if name not in self._prompts:
            raise Refused(-32602, f"Unknown prompt: {name}")
        made = self._prompts[name][1](**arguments)
        messages = [{"role": "user", "content": {"type": "text", "text": made}}] if isinstance(made, str) else made
        return {"messages": messages}

    def _read(self, uri: str) -> dict[str, Any]:
        for offered, (_, function) in self._resources.items():
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(offered))
            if (found := re.fullmatch(pattern, uri)) is not None:
                return {"contents": [{"uri": uri, "mimeType": "text/plain", "text": function(**found.groupdict())}]}
        raise Refused(-32602, f"Unknown resource: {uri}")


def _schema(function: Callable[..., Any]) -> dict[str, Any]:
    kinds = {name: kind for name, kind in function.__annotations__.items() if name != "return" and kind is not Call}
    defaults = len(function.__defaults__ or ())  # type: ignore[attr-defined]
    required = list(kinds)[: len(kinds) - defaults]
    properties = {name: {"type": _TYPES[kind]} for name, kind in kinds.items()}
    return {"type": "object", "properties": properties, "required": required}


def _check(schema: dict[str, Any], function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    missing = [name for name in schema["required"] if name not in arguments]
    if missing:
        raise ValueError(f"missing arguments: {', '.join(missing)}")
    for name, value in arguments.items():
        if name in schema["properties"] and not isinstance(value, _ACCEPTED[function.__annotations__[name]]):
            raise ValueError(f"{name} is of the wrong type")


def _content(made: str | list[dict[str, Any]], *, failed: bool = False) -> dict[str, Any]:
    blocks = [{"type": "text", "text": made}] if isinstance(made, str) else made
    return {"content": blocks, "isError": failed}
