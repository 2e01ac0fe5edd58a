"""A stdio server that misbehaves as its flags say, and writes a journal of what it reads.

Start it with `pipe.py JOURNAL [FLAG …]`. The journal has every line of stdin, unchanged; lines that begin with "#" say
what else happened. Flags: `modern` answers `server/discover`; `code=N` refuses it with that error code, `supports=V`
says with -32022 that it speaks V, `silent` does not answer it; `stubborn` outlives the end of stdin and SIGTERM.
"""

import json
import os
import signal
import sys

journal = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
flags = dict(flag.partition("=")[::2] for flag in sys.argv[2:])


def note(text: str) -> None:
    os.write(journal, f"# {text}\n".encode())


def say(request_id: object, **outcome: object) -> None:
    print(json.dumps({"jsonrpc": "2.0", "id": request_id, **outcome}), flush=True)


def said(text: str) -> dict[str, object]:
    return {"content": [{"type": "text", "text": text}]}


def call(request_id: object, name: str, arguments: dict[str, object]) -> None:
    text = str(arguments.get("text"))
    match name:
        case "noisy":
            print("Welcome!", "", "{oops", "[1]", sep="\n", flush=True)
            print("ERROR: FATAL: all is well", file=sys.stderr, flush=True)
        case "die":
            os._exit(1)
        case "silent" | "late":
            return
        case "environment":
            text = json.dumps(dict(os.environ))
        case "pid":
            text = str(os.getpid())
    say(request_id, result=said(text))


def probed(request_id: object) -> None:
    if "modern" in flags:
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
        say(request_id, result=result)
    elif "supports" in flags:
        data = {"supported": [flags["supports"]], "requested": "2026-07-28"}
        say(request_id, error={"code": -32022, "message": "unsupported version", "data": data})
    elif "code" in flags:
        say(request_id, error={"code": int(flags["code"]), "message": "what?"})


def handle(message: dict[str, object], called: dict[object, str]) -> None:
    method, request_id = message.get("method"), message.get("id")
    params: dict[str, object] = message.get("params") or {}  # type: ignore[assignment]
    if method == "server/discover":
        probed(request_id)
    elif method == "initialize":
        about = {"name": "pipe", "version": "1"}
        version = params["protocolVersion"]
        say(request_id, result={"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about})
    elif method == "tools/list":
        names = ("echo", "noisy", "die", "silent", "late", "environment", "pid")
        say(request_id, result={"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]})
    elif method == "tools/call":
        for late in [number for number, tool in called.items() if tool == "cancelled"]:
            say(late, result=said("too late"))
        called[request_id] = name = str(params["name"])
        call(request_id, name, params.get("arguments") or {})  # type: ignore[arg-type]
    elif method == "notifications/cancelled" and called.get(params["requestId"]) == "late":
        called[params["requestId"]] = "cancelled"
    elif request_id is not None:
        say(request_id, error={"code": -32601, "message": "unknown method"})


def main() -> None:
    note("started")
    if "stubborn" in flags:
        signal.signal(signal.SIGTERM, lambda *_: note("SIGTERM"))
    called: dict[object, str] = {}
    for line in sys.stdin.buffer:
        os.write(journal, line)
        handle(json.loads(line), called)
    note("end of input")
    while "stubborn" in flags:
        signal.pause()


main()
