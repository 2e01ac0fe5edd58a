"""More odd servers and clients, all behind one gateway that runs as its own process. Each file in `more/` is one."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.field.more import wire
from tests.ports import free_port

MORE = Path(__file__).with_name("more")
STDIO = ("banner", "reborn", "changing", "clashing", "blocking", "asks_first", "pages", "half")
CLIENTS = ("client_wire", "client_ids", "client_types", "client_eras", "client_leaves", "client_stdio")
HTTP = tuple(sorted(file.stem for file in MORE.glob("*.py") if file.stem not in {"wire", "__init__", *STDIO, *CLIENTS}))


class Gate:
    """The gateway's port, and a legacy session that calls tools by their server's name."""

    def __init__(self, port: int, config: Path) -> None:
        self.port = port
        self.config = config
        self.session = wire.begin(port, "2025-11-25")

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        params = {"name": name, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        status, _, answer = wire.http(self.port, message, headers=self.session)
        assert status == 200
        return answer[-1] if isinstance(answer, list) else answer

    def text(self, name: str, **arguments: Any) -> str:
        return str(self.call(name, **arguments)["result"]["content"][0]["text"])

    def tools(self) -> list[str]:
        message = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        return [tool["name"] for tool in wire.http(self.port, message, headers=self.session)[2]["result"]["tools"]]


def until(holds: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("more")
    ports = {name: free_port() for name in HTTP}
    upstreams: list[dict[str, Any]] = []
    for name in STDIO:
        args = [str(MORE / f"{name}.py"), *([str(folder / "mark")] if name == "reborn" else [])]
        upstreams.append({"name": name, "transport": "stdio", "command": sys.executable, "args": args})
    upstreams[STDIO.index("blocking")]["health_check_interval"] = 1
    for name in HTTP:
        transport = "sse" if name == "old_sse" else "http"
        upstreams.append({"name": name, "transport": transport, "url": f"http://127.0.0.1:{ports[name]}/mcp"})
    proxy = {
        "enable": True,
        "drain_timeout": 1,
        "port": free_port(),
        "security": {"rate_limit_per_minute": 0},
        "upstreams": upstreams,
    }
    config = folder / "mcp-proxy.toml"
    config.write_text(tomli_w.dumps({"mcp": {"proxy": proxy}}))
    config.chmod(0o600)
    servers = [subprocess.Popen([sys.executable, str(MORE / f"{name}.py"), str(ports[name])]) for name in HTTP]
    rad = [str(Path(sys.executable).with_name("rad")), "mcp", "proxy", "start", "--config", str(config)]
    try:
        for port in ports.values():
            until(lambda port=port: accepts(port))
        with (folder / "log").open("w") as log, subprocess.Popen(rad, stderr=log) as gateway:
            until(lambda: accepts(proxy["port"]))
            gate = Gate(int(proxy["port"]), config)
            until(lambda: len({name for name in gate.tools() if name.startswith(("page_", "sticky"))}) > 5)
            yield gate
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(30)
    finally:
        for server in servers:
            server.terminate()
            server.wait()
    assert "a bug in the gateway" not in (folder / "log").read_text()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(client: str, *args: object) -> dict[str, Any]:
    command = [sys.executable, str(MORE / f"{client}.py"), *map(str, args)]
    done = subprocess.run(command, capture_output=True, timeout=55, check=True)
    return dict(json.loads(done.stdout))


# -- servers over HTTP --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sse_cr", "early", "http10", "chunks", "sticky", "twice", "old_sse"])
def test_the_answer_is_found(gate: Gate, name: str) -> None:
    assert gate.text(f"{name}:echo", a=1) == '{"a": 1}'


def test_events_in_pieces_are_read_as_utf8(gate: Gate) -> None:
    assert gate.text("sse_pieces:echo") == "grüße 🎈\u2028 \u0085 end"


@pytest.mark.parametrize("tool", ["no_blank", "no_line_end"])
def test_an_event_that_does_not_end_is_no_answer_and_says_so(gate: Gate, tool: str) -> None:
    assert "its answer's stream ended without the answer" in gate.text(f"sse_unfinished:{tool}")


def test_an_early_refusal_is_read_although_the_body_is_not(gate: Gate) -> None:
    error = gate.call("early:echo", a="x" * 1_000_000)["error"]
    assert error["message"] == "upstream early refused the call, it was not executed: HTTP 413"


def test_a_server_that_closes_each_connection_executes_nothing_twice(gate: Gate) -> None:
    texts = [gate.text("keepalive:echo", ms=n % 4) for n in range(60)]
    counted = [int(text) for text in texts if text.isdecimal()]
    assert counted == sorted(set(counted))
    assert len(counted) >= 30
    assert all("Outcome unknown: upstream keepalive" in text for text in texts if not text.isdecimal())


def test_a_server_that_answers_elsewhere_is_down_and_the_reason_is_shown(gate: Gate) -> None:
    assert "HTTP 202 without an answer" in gate.call("later:echo")["error"]["message"]


@pytest.mark.parametrize("tool", ["text", "number"])
def test_ids_may_change_their_type(gate: Gate, tool: str) -> None:
    assert gate.text(f"id_types:{tool}", a=1) == '{"a": 1}'


@pytest.mark.parametrize("tool", ["surrogate", "twice", "big"])
def test_json_that_can_be_read_is_an_answer(gate: Gate, tool: str) -> None:
    assert not gate.call(f"almost_json:{tool}")["result"].get("isError")


@pytest.mark.parametrize("tool", ["bom", "nan", "latin1", "tail", "raw_tab", "comma", "deep", "array"])
def test_json_that_cannot_be_read_fails_its_call_alone(gate: Gate, tool: str) -> None:
    assert gate.text(f"almost_json:{tool}").startswith("Outcome unknown: upstream almost_json")
    assert not gate.call("almost_json:surrogate")["result"].get("isError")


@pytest.mark.parametrize("tool", ["null_error", "null_members", "extra"])
@pytest.mark.parametrize("modern", [False, True])
def test_members_too_many_or_null_do_no_harm(gate: Gate, tool: str, modern: bool) -> None:
    name = f"members:{tool}"
    found = call_modern(gate.port, name) if modern else gate.call(name)
    assert found["result"]["content"][0]["text"] == "fine"


@pytest.mark.parametrize("tool", ["text_code", "text_error", "float_code"])
def test_a_malformed_error_keeps_its_words(gate: Gate, tool: str) -> None:
    assert gate.call(f"members:{tool}")["error"]["message"] == "in words"


def test_an_error_is_never_without_words(gate: Gate) -> None:
    assert gate.call("members:null_result")["error"]["message"] == "as it should be"
    assert "without a message" in gate.call("members:no_message")["error"]["message"]


def test_a_server_that_was_restarted_gets_a_new_session(gate: Gate) -> None:
    gate.text("amnesia:restart")
    gate.call("amnesia:echo")
    until(lambda: gate.call("amnesia:echo").get("result", {}).get("content", [{}])[0].get("text") == "fine", 10)


def test_forgotten_sessions_never_run_a_call_twice(gate: Gate) -> None:
    counted = []
    for _ in range(12):
        result = gate.call("forgetful:echo").get("result", {"isError": True})
        counted += [] if result.get("isError") else [int(result["content"][0]["text"])]
        time.sleep(0.2)
    assert len(counted) >= 4
    assert counted == list(range(counted[0], counted[0] + len(counted)))


@pytest.mark.parametrize("tool", ["created", "partial", "json_rpc"])
def test_any_success_with_json_is_an_answer(gate: Gate, tool: str) -> None:
    assert gate.text(f"statuses:{tool}").isdecimal()


@pytest.mark.parametrize("tool", ["plain_text", "no_type", "json_as_sse", "sse_as_json", "result_in_500"])
def test_other_answers_are_said_to_be_none(gate: Gate, tool: str) -> None:
    assert gate.text(f"statuses:{tool}").startswith("Outcome unknown: upstream statuses")


@pytest.mark.parametrize("tool", ["error_in_500", "error_in_400"])
def test_an_error_keeps_its_words_whatever_the_status(gate: Gate, tool: str) -> None:
    assert gate.call(f"statuses:{tool}")["error"]["message"] == "in its own words"


def test_a_stream_that_ends_at_once_is_not_asked_for_all_the_time(gate: Gate) -> None:
    before = int(gate.text("statuses:gets"))
    time.sleep(2)
    assert int(gate.text("statuses:gets")) - before <= 4


@pytest.mark.parametrize(
    "tool", ["gzip", "x_gzip", "gzip_twice", "zlib", "raw_deflate", "identity", "gzip_members", "stream"]
)
def test_codings_are_undone(gate: Gate, tool: str) -> None:
    assert gate.text(f"encodings:{tool}", a=1) == '{"a": 1}'


def test_a_compressed_bomb_is_refused(gate: Gate) -> None:
    assert "its answer is larger than" in gate.text("encodings:bomb")


# -- servers over stdio -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "reason"), [("half_line", "the server exited with status 0"), ("closes", "the server closed its stdout")]
)
def test_an_answer_cut_short_says_why_and_the_server_comes_back(gate: Gate, tool: str, reason: str) -> None:
    assert reason in gate.text(f"half:{tool}")
    until(lambda: "result" in gate.call("half:echo"))


@pytest.mark.parametrize("tool", ["echo", "bar"])
def test_what_a_server_prints_besides_is_skipped(gate: Gate, tool: str) -> None:
    assert gate.text(f"banner:{tool}", a=1) == '{"a": 1}'


def test_a_change_announced_right_after_the_first_list_is_seen_and_fetched_at_a_bounded_rate(gate: Gate) -> None:
    until(lambda: "more_2" in gate.tools())
    before = int(gate.text("changing:asked"))
    time.sleep(3)
    assert int(gate.text("changing:asked")) - before <= 5


def test_every_name_leads_to_its_own_tool(gate: Gate) -> None:
    reached = {}
    for name in gate.tools():
        if name.startswith(("page_", "more_")) or name in {"update", "block", "half_line", "closes", "deaf"}:
            continue
        result = gate.call(name).get("result", {})
        match result.get("content"):
            case [{"text": str(text)}] if text.startswith("clashing "):
                reached[name] = json.loads(text.removeprefix("clashing "))
    assert len(reached) == len(set(reached.values())) == 25
    assert "echo" not in reached
    assert "banner__echo" not in reached


def test_a_server_that_blocks_and_never_pongs_is_not_restarted(gate: Gate) -> None:
    started = gate.text("blocking:quick")
    assert gate.text("blocking:block", seconds=7) == started
    assert gate.text("blocking:quick") == started


def test_a_server_that_asks_before_it_answers_is_answered(gate: Gate) -> None:
    said = json.loads(gate.text("asks_first:said"))
    assert said["ping"]["result"] == {}
    assert said["unknown"]["error"]["code"] == -32601
    assert "roots" in said


def test_odd_cursors_are_followed_as_long_as_they_lead_on(gate: Gate) -> None:
    assert {f"page_{n}" for n in range(6)} <= set(gate.tools())


def test_a_server_that_comes_back_as_another_version_has_its_new_tools(gate: Gate) -> None:
    assert gate.text("reborn:both") == "1"
    assert gate.text("reborn:update").startswith("Outcome unknown: upstream reborn")
    assert gate.text("reborn:both") == "2"
    assert {"fresh"} == {"fresh", "old", "update"} & set(gate.tools())
    assert gate.call("old")["error"]["message"] == "Unknown tool: old"


# -- clients ------------------------------------------------------------------------------------------------------


def test_odd_hints_of_a_modern_server_make_its_lists_short_lived_and_private(gate: Gate) -> None:
    assert gate.text("modern_hints:echo") == "fine"
    assert call_modern(gate.port, "modern_hints:echo")["result"]["content"][0]["text"] == "fine"


@pytest.mark.timeout(20)
def test_a_server_that_does_not_read_holds_up_no_other(gate: Gate) -> None:
    session = wire.begin(gate.port)
    params = {"name": "half:deaf", "arguments": {"x": "y" * 1_000_000}}
    bodies = [{"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": params} for n in range(3)]
    stuck = [
        threading.Thread(target=wire.http, args=(gate.port, body), kwargs={"headers": session}, daemon=True)
        for body in bodies
    ]
    for thread in stuck:
        thread.start()
    time.sleep(0.5)
    assert gate.text("banner:echo") == "{}"


def call_modern(port: int, name: str) -> dict[str, Any]:
    meta = {"protocolVersion": "2026-07-28", "clientInfo": {"name": "odd", "version": "1"}, "clientCapabilities": {}}
    params = {"name": name, "_meta": {f"io.modelcontextprotocol/{key}": value for key, value in meta.items()}}
    headers = ["MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", f"Mcp-Name: {name}"]
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return dict(wire.http(port, message, headers=headers)[2])


def test_http_written_in_odd_ways(gate: Gate) -> None:
    got = run("client_wire", gate.port)
    assert got.pop("pipelined") == [0, 1, 2, 3, 4]
    wrong = {name for name, answers in got.items() if answers != [[200, 1]]}
    assert wrong == {"double_slash", "upper", "encoded", "blank_lines"}


def test_odd_ids_and_params_get_their_own_answer_or_a_clear_error(gate: Gate) -> None:
    got = run("client_ids", gate.port)
    good = ("0", "-1", "9007199254740993", "123456789012345678901234567890", '""', '"\\u0000é"')
    for ident in good:
        assert got["ids"][ident][:2] == [200, json.loads(ident)]
    assert "at most 1024 bytes" in got["ids"]['"xxxxxxxxxxxxxxxxxxx'][2]["message"]
    for status, _, answer, _ in (found for ident, found in got["ids"].items() if ident not in good):
        assert (status, answer["code"] in {-32600, -32700}) == (400, True)
    assert got["params"]['"x"'][2]["message"] == 'the member "params" must be an object'
    assert got["params"]['{"name":null}'][2]["message"] == "params.name must be a string"
    assert all(status == 200 for token, (status, *_) in got["tokens"].items() if token != '"\\ud800"')
    echoed = got["arguments"]["123456789012345678901234567890"][2]["content"][0]["text"]
    assert echoed == '{"a": 123456789012345678901234567890}'


def test_odd_headers_and_bodies(gate: Gate) -> None:
    got = run("client_types", gate.port)
    refused = {kind: {name for name, found in tried.items() if found[0] != 200} for kind, tried in got.items()}
    assert refused["accept"] == {"text/html", "garbage", ",,"}
    assert refused["type"] == {"text/plain", "", "application/json-rpc", "application/vnd.api+json"}
    assert refused["body"].isdisjoint({"spaces", "identity"})
    assert all(found[1]["error"]["message"] for tried in got.values() for found in tried.values() if found[0] != 200)


def test_all_revisions_on_one_connection(gate: Gate) -> None:
    got = run("client_eras", gate.port)
    for version in ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"):
        for name in (version, f"{version} then modern", f"{version} again"):
            status, answer = got[name]
            assert (status, answer["result"]["content"][0]["text"]) == (200, '{"\\u00e9": 1}'), name
    assert [got[f"modern with {name}"] for name in ("session", "stale session")] == [[200], [200]]
    assert (got["stale"][0], got["none"][0], got["batch"][0], got["batch newer"][0]) == (404, 400, 200, 400)
    assert got["after"][0] == 200


def test_clients_that_leave_harm_no_other_client(gate: Gate) -> None:
    got = run("client_leaves", gate.port)
    assert got["cancels"] == [202] * 10
    assert got["sessions"] == 130
    assert got["first"] == 404
    assert float(got["last"]["result"]["content"][0]["text"])


def test_odd_lines_on_stdin(tmp_path: Path) -> None:
    banner = {"name": "banner", "transport": "stdio", "command": sys.executable, "args": [str(MORE / "banner.py")]}
    config = tmp_path / "stdio.toml"
    config.write_text(tomli_w.dumps({"mcp": {"proxy": {"enable": True, "upstreams": [banner]}}}))
    config.chmod(0o600)
    rad = str(Path(sys.executable).with_name("rad"))
    got = run("client_stdio", rad, "mcp", "proxy", "start", "--stdio", "--config", config)
    assert got["code"] == 0
    answers = {repr(line["id"]): line for line in got["lines"] if "id" in line}
    assert {"0", "3", "'3'", "4", "'last'"} <= answers.keys()
    assert answers["'last'"]["result"]["content"][0]["text"] == '{"\\u2028": "\\u00e9"}'
    assert {line["error"]["code"] for line in got["lines"] if "id" not in line and "method" not in line} == {-32700}
