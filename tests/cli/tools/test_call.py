import contextlib
import json
import socket

import pytest

from gateway_core.cli.report import Failed
from gateway_core.cli.tools import call


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        ({"type": "text", "text": "two\nlines"}, "two\nlines"),
        ({"type": "image", "mimeType": "image/png", "data": "QUJD"}, "[image image/png, 4 characters of base64]"),
        ({"type": "resource_link", "uri": "file:///x"}, "[link to file:///x]"),
        ({"type": "resource", "resource": {"uri": "file:///x", "text": "inside"}}, "inside"),
        ({"type": "resource", "resource": {"uri": "a:b", "blob": "QUJD"}}, "[resource a:b, 4 characters of base64]"),
    ],
)
def test_content_is_readable(block, shown, capsys):
    call._finish({"result": {"content": [block]}}, quiet=False)
    assert capsys.readouterr().out == shown + "\n"


def test_a_terminal_gets_no_control_characters(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert call._shown({"type": "text", "text": "a\tb\n\x1b]0;x\x07"}) == "a\tb\n\\x1b]0;x\\x07"


def test_structured_content_alone_is_shown(capsys):
    call._finish({"result": {"content": [], "structuredContent": {"sum": 5}}}, quiet=False)
    assert json.loads(capsys.readouterr().out) == {"sum": 5}


def test_errors_of_tool_and_protocol_fail_the_command():
    with pytest.raises(Failed, match="tool reports an error"):
        call._finish({"result": {"content": [], "isError": True}}, quiet=True)
    lost = {"content": [], "isError": True, "_meta": {"dev.radium.gateway/outcome": "unknown"}}
    with pytest.raises(Failed, match="the outcome is unknown"):
        call._finish({"result": lost}, quiet=True)
    with pytest.raises(Failed, match=r"unknown tool \(code -32602\)\n.*retryAfterMs"):
        call._finish({"error": {"code": -32602, "message": "unknown tool", "data": {"retryAfterMs": 5}}}, quiet=True)


def test_what_is_not_utf8_is_wrong_usage(rad):
    for arguments in (
        ["add", "--arg", b"a=\xff"],
        ["add", "--data", b'{"a": "\xff"}'],
        [b"\xff"],
        ["add", r'--arg=a="\ud800"'],
    ):
        found = rad("call", *arguments)
        assert found.returncode == 2
        assert "UTF-8" in found.stderr


def test_the_reason_of_a_refusal_is_shown(rad, spawn, project, free_port, wait_for, status):
    with (project / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write("max_connections = 1\n")
    spawn("start")
    held = []
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "holder", "version": "1"},
    }
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}).encode()
    head = (
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
        "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )

    def connected():
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(("127.0.0.1", free_port)))
        return held

    wait_for(lambda: connected() and status())
    held[0].sendall(head.encode() + body)
    assert held[0].recv(100).startswith(b"HTTP/1.1 200 ")
    found = rad("call", "add")
    held[0].close()
    assert found.returncode == 1
    assert "the limit of 1 connection is reached" in found.stderr


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("serch", "Unknown tool; did you mean search?"),
        ("search", "Unknown tool; the gateway has it, and a plugin or a profile hides it from this caller"),
        ("delete", "Unknown tool; the gateway has it, and a plugin or a profile hides it from this caller"),
        ("delet", "Unknown tool"),
        ("zzz", "Unknown tool"),
    ],
)
def test_an_unknown_tool_is_explained(name: str, hint: str) -> None:
    answer = {"error": {"code": -32602, "message": "Unknown tool"}}
    call._propose(answer, name, [{"name": "search"}, {"name": "fetch"}], [{"name": "delete"}], [{"name": "a"}])
    assert answer["error"]["message"] == hint


def test_an_unknown_tool_may_be_one_that_is_listed_after_a_login() -> None:
    answer = {"error": {"code": -32602, "message": "Unknown tool"}}
    logins = {"wiki": (True, None), "mail": (True, 3), "done": (False, None)}
    upstreams = [{"name": name, "login": {"needed": it[0], "users": it[1]}} for name, it in logins.items()]
    call._propose(answer, "issues", [{"name": "search"}], [], [*upstreams, {"name": "free", "login": None}])
    assert answer["error"]["message"] == (
        "Unknown tool; these upstreams list their tools after a login; to log in at wiki: rad mcp proxy login wiki; "
        "mail: rad mcp proxy call mail:mail_login"
    )
