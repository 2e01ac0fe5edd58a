"""Responses with members too many, too few, or null.

Seen in servers that serialise a whole object: `error: null` beside a result, `serverInfo` without a version, an
`isError` that is null, and unknown members everywhere.
"""

from typing import Any

from tests.field.plain import HttpServer, Message


class Server(HttpServer):
    def answer(self, message: Message) -> Message | None:
        answer = super().answer(message)
        if answer is None:
            return None
        match self.variant:
            case "error-null":
                return {**({"error": None} if "result" in answer else {}), **answer}
            case "result-null":
                return {**({"result": None} if "error" in answer else {}), **answer}
            case "extra":
                return {"took": 0.01, **answer, "server": {"node": 1}}
            case "no-jsonrpc":
                answer.pop("jsonrpc")
            case "jsonrpc-1":
                answer["jsonrpc"] = "1.0"
        return answer

    def result(self, method: str, params: Message) -> Any:
        result = super().result(method, params)
        match self.variant, method:
            case "extra", _:
                result["elapsed"] = None
            case "no-version", "initialize":
                result["serverInfo"].pop("version")
            case "no-server", "initialize":
                result.pop("serverInfo")
            case "instructions-null", "initialize":
                result["instructions"] = None
            case "capability-null", "initialize":
                result["capabilities"].update(logging=None, completions=None)
            case "capability-true", "initialize":
                result["capabilities"].update(tools=True)
            case "revision-2024", "initialize":
                result["protocolVersion"] = "2024-11-05"
            case "revision-unknown", "initialize":
                result["protocolVersion"] = "2025-01-01"
            case "flags-null", "tools/call":
                result.update(isError=None, structuredContent=None, _meta=None)
            case "content-missing", "tools/call":
                result["structuredContent"] = {"text": result.pop("content")[0]["text"]}
            case "content-extra", "tools/call":
                result["content"][0].update(annotations=None, lang="de")
        return result
