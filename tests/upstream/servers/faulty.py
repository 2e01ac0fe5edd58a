"""A legacy server on stdio that does what no good server does. The name of the called tool says what.

Started as `faulty.py [MODE [FILE]]`: `stubborn` ignores SIGTERM and the end of stdin, `family` does so with a child
of its own (both pids go to FILE), `exit` fails at once, `shy` exits at anything before `initialize`, in the middle of
a line, `compact` writes JSON without white space, `modern` speaks 2026-07-28 and ends the first subscription at once.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time

received: list[dict] = []
STUBBORN = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def say(**message: object) -> None:
    separators = (",", ":") if "compact" in sys.argv else None
    write(json.dumps({"jsonrpc": "2.0", **message}, separators=separators).encode() + b"\n")


def hear() -> dict:
    line = sys.stdin.buffer.readline()
    if not line:
        if "stubborn" in sys.argv or "family" in sys.argv:
            time.sleep(600)
        sys.exit(0)
    message = json.loads(line)
    received.append(message)
    return message


def fds() -> list[int]:
    found = []
    for fd in range(64):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return found


def call(number: int, tool: str, arguments: dict, meta: dict) -> None:
    result: dict = {"tool": tool}
    if tool == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif tool == "exit":
        print("starting", "last words: " + arguments.get("words", ""), sep="\n", file=sys.stderr, flush=True)
        os._exit(arguments["status"])
    elif tool == "answer_and_exit":
        say(id=number, result=result)
        os._exit(0)
    elif tool == "orphan":
        command = "trap '' TERM; sleep 600" if arguments["stubborn"] else "sleep 600"
        grandchild = subprocess.Popen(["sh", "-c", command], start_new_session=arguments["elsewhere"])
        time.sleep(0.2)
        with open(arguments["file"], "w") as file:
            file.write(str(grandchild.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    elif tool == "close_stdout":
        os.close(1)
        time.sleep(600)
    elif tool == "close_stdin":
        os.close(0)
        say(id=number, result=result)
        time.sleep(600)
    elif tool == "banner":
        write(b"Welcome to the server!\n\n\x1b[31mred\n[1, 2]\n")
    elif tool == "raw":  # Latin-1 with N for the id, then the answer, in one write
        number_in = b"%d" % number
        before = number_in.join(re.split(b"N(?!aN)(?<!aN)", arguments["text"].encode("latin-1"))) + b"\n"
        after = json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode() + b"\n"
        write(before + after if arguments["answer"] else before)
        return
    elif tool == "malformed":
        write(b"{oops\n")
        return
    elif tool == "too_deep":
        write(b'{"jsonrpc":"2.0","id":%d,"result":{"deep":%b}}\n' % (number, b"[" * 70 + b"]" * 70))
        return
    elif tool == "not_utf8":
        write(b'{"jsonrpc":"2.0","id":%d,"result":{"text":"\xff"}}\n' % number)
        return
    elif tool == "no_object":
        say(id=number, result=[1])
        return
    elif tool == "null_error":
        say(id=number, result=result, error=None)
        return
    elif tool == "cut_emoji":
        write(b'{"jsonrpc":"2.0","id":%d,"result":{"text":"so nice \\ud83d"}}\n' % number)
        return
    elif tool == "wrong_ids":
        say(id=777, result={"tool": "to nobody"})
        say(id=f"0{number}", result={"tool": "to a string"})
        say(id=0, result={"tool": "to zero"})
    elif tool == "cancel_me":
        say(method="notifications/cancelled", params={"requestId": number})
    elif tool == "twice":
        answers = [{"jsonrpc": "2.0", "id": number, "result": {"tool": text}} for text in (tool, "second answer")]
        write(b"".join(json.dumps(answer).encode() + b"\n" for answer in answers))
        return
    elif tool == "guess":
        say(id=number + 1, result={"tool": "guessed"})
    elif tool == "guess_while_busy":
        time.sleep(0.3)
        say(id=number + 2, result={"tool": "guessed"})
        time.sleep(0.3)
    elif tool == "read_some":
        sys.stdin.buffer.read(arguments["bytes"])
        time.sleep(600)
    elif tool == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif tool == "flood_stderr":
        block = (b"x" * 199 + b"\n") * 1000
        for _ in range(arguments["megabytes"] * 5):
            os.write(2, block)
    elif tool == "long":
        text = b"y" * arguments["bytes"]
        if arguments["id_first"]:
            write(b'{"jsonrpc":"2.0","id":%d,"result":{"text":"%b"}}\n' % (number, text))
        else:
            write(b'{"result":{"text":"%b"},"jsonrpc":"2.0","id":%d}\n' % (text, number))
        return
    elif tool == "question":
        say(id="q", method=arguments["method"])
        result["answer"] = hear()
    elif tool == "progress":
        say(method="notifications/progress", params={"progressToken": number + 5, "progress": 1})
        say(method="notifications/progress", params={"progressToken": f"{number}.", "progress": 1})
        for step in (1, 3, 2, 4):
            say(method="notifications/progress", params={"progressToken": meta["progressToken"], "progress": step})
    elif tool == "notify":
        say(method="notifications/message", params={"level": "info", "data": "hello"})
        say(method="notifications/tools/list_changed")
    elif tool == "silent":
        return
    elif tool == "received":
        result["messages"] = received
    elif tool == "environment":
        result |= {"env": dict(os.environ), "fds": fds(), "cwd": os.getcwd(), "session": os.getsid(0)}
    elif tool == "echo":
        result |= {"arguments": arguments, "meta": meta}
    elif tool == "error":
        say(id=number, error={"code": -32602, "message": "no such tool"})
        return
    say(id=number, result=result)


def main() -> None:
    mode = sys.argv[1] if len(sys.argv) > 1 else ""
    if mode == "exit":
        print("Traceback:", "ModuleNotFoundError: no module named 'x'", sep="\n", file=sys.stderr, flush=True)
        sys.exit(3)
    if mode in ("stubborn", "family"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "family":
        grandchild = subprocess.Popen([sys.executable, "-c", STUBBORN])
        with open(sys.argv[2], "w") as file:
            file.write(f"{os.getpid()} {grandchild.pid}")
    listens = 0
    while True:
        message = hear()
        method, params = message.get("method"), message.get("params", {})
        if method == "initialize":
            server = {"name": "faulty", "version": "1"}
            about = {"protocolVersion": params["protocolVersion"], "capabilities": {}, "serverInfo": server}
            say(id=message["id"], result=about)
        elif mode == "modern" and method == "server/discover":
            offers = {"tools": {"listChanged": True}, "prompts": {}}
            say(id=message["id"], result={"supportedVersions": ["2026-07-28"], "capabilities": offers})
        elif mode == "modern" and method == "subscriptions/listen":
            listens += 1
            mark = {"io.modelcontextprotocol/subscriptionId": message["id"]}
            say(method="notifications/subscriptions/acknowledged", params={"_meta": mark})
            if listens == 1:
                say(method="notifications/cancelled", params={"requestId": message["id"]})
        elif mode == "shy" and len(received) == 1:
            write(b"Unexpected ")
            sys.exit(1)
        elif method == "tools/list":
            cut = b'{"name":"t","description":"so nice \\ud83d","inputSchema":{"type":"object"}}'
            write(b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[%b]}}\n' % (message["id"], cut))
        elif method == "tools/call":
            call(message["id"], params["name"], params.get("arguments", {}), params.get("_meta", {}))
        elif "id" in message and method:
            say(id=message["id"], error={"code": -32601, "message": "unknown method"})


main()
