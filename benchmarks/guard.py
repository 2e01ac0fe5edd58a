"""A guard against slow-downs of the hottest paths.

    python guard.py            compare with guard.json; exit status 1 when something became dearer
    python guard.py --renew    write guard.json

Two figures for each path. **Steps** are the byte codes that one run of it executes: the same on every machine, whatever
else it does, so that a little more is seen; they tell nothing about what is written in C, and differ between versions
of Python. **Time** is a multiple of what a fixed piece of Python takes in the same moments, in turns of about a
millisecond, the median of many: it sees what is written in C, too, and is twice as much on some processors as on
others, so that its tolerance is for blunders.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from gateway_core.api import Principal
from gateway_core.config import DEFAULT_PLUGINS, load
from gateway_core.downstream.agents import meta_of
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.gateway import Gateway
from gateway_core.http1.reader import RequestReader
from gateway_core.log import output
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.decoder import decode_request, decode_response
from gateway_core.upstream import connection_manager
from gateway_core.upstream.base import Connection, ServerInfo
from gateway_core.upstream.pending import Pending
from gateway_core.upstream.requests import Reply, Request

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
RECORDED = Path(__file__).with_name("guard.json")
STEPS_TOLERANCE = 1.05
TIME_TOLERANCE = 3.0
TURNS = 150
READING, DEFAULT = "request read", "usual call with the default plugins"
WATCHED = "the same while a dashboard watches"
RELATIONS = {
    "the same with an audit log instead": 1.25,
    "the same with metrics instead": 1.085,
    "the same with traces of 1 % instead": 1.08,
    WATCHED: 1.075,
}
"""The most steps of a path, as a multiple of those of `DEFAULT`; both with the steps of reading the request."""

_CONFIG = """\
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "bench"
transport = "http"
url = "http://127.0.0.1:9/mcp"
"""
_MINIMAL = """
[[mcp.proxy.plugins]]
name = "routing_priority"

[[mcp.proxy.plugins]]
name = "conflict_autoprefix"
"""
_DEFAULT = """
[mcp.proxy.security]
rate_limit_per_minute = 1000000000
log_requests = false
log_responses = false
"""
_RULE = """
[[mcp.proxy.plugins.rules]]
groups = ["group%d"]
tools = ["t%d_*"]
then = "deny"
"""
_POLICY = (
    "".join(f'\n[[mcp.proxy.plugins]]\nname = "{name}"\n' for name in DEFAULT_PLUGINS)
    + '\n[[mcp.proxy.plugins]]\nname = "security_policy"\n'
    + "".join(_RULE % (number, number) for number in range(49))
    + '\n[[mcp.proxy.plugins.rules]]\nverified = true\nthen = "allow"\n'
    + _DEFAULT
)
"""50 rules, of which the last one decides."""
_PROFILE = """
[[mcp.proxy.profiles]]
name = "desk"
tools = ["bench:*", "!*9"]
groups = ["staff"]

[[mcp.proxy.profiles.overrides]]
tool = "bench:echo"
name = "say"
description = "Says something."
"""
_PRESET = 'fixed = { to = "all" }\n'
"""An argument that the profile sets."""
_AUDIT = "".join(f'\n[[mcp.proxy.plugins]]\nname = "{name}"\n' for name in ("audit_log", *DEFAULT_PLUGINS)) + _DEFAULT
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "guard", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_PARAMS = {"name": "echo", "arguments": {"text": "x" * 100}, "_meta": _META}
_METRICS = _AUDIT.replace("audit_log", "observe_metrics")
_TRACES = _AUDIT.replace("audit_log", "observe_traces").replace('"observe_traces"\n', '"observe_traces"\nratio = %s\n')
_RENAMED = {**_PARAMS, "name": "say"}
_BODY = jsonrpc.encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": _PARAMS})
_HEAD = (
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nMcp-Method: tools/call\r\n"
    b"MCP-Protocol-Version: 2026-07-28\r\nMcp-Name: echo\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
)
_TOOLS = [{"name": f"tool{n}" if n else "echo", "inputSchema": {"type": "object"}} for n in range(50)]
_LIST = jsonrpc.encode({"resultType": "complete", "tools": _TOOLS, "ttlMs": 10**9, "cacheScope": "public"})
_RESULT = jsonrpc.encode({"resultType": "complete", "content": [{"type": "text", "text": "x" * 100}]})

_ANSWER = jsonrpc.result(b"7", _RESULT)

_AGENT = Principal("b@127.0.0.1")

Run = Callable[[], Awaitable[object]]


class Fixed(Connection):
    """A modern server that answers at once, without a network."""

    info = ServerInfo("modern", "2026-07-28", {"tools": {}})
    closed = False

    async def open(self, known_era: Any) -> ServerInfo:
        return self.info

    async def deliver(
        self, request: Request, exchange: Exchange | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        if request.method == "tools/list":
            return Reply(result=_LIST)
        pending = Pending(7, request.method, exchange)
        asyncio.get_running_loop().call_soon(lambda: pending.resolve(decode_response(_ANSWER)))
        return await pending

    async def notify(self, method: str, params: Any = None) -> None: ...

    async def close(self) -> None: ...

    async def wait_closed(self) -> str:
        await asyncio.Event().wait()
        return ""


async def fixed() -> None:
    """What everything is compared with."""
    found: dict[str, int] = {}
    for number in range(40):
        found[f"key{number}"] = len(json.dumps({"number": number}))


async def gateway(scratch: Path, plugins: str) -> Gateway:
    """A gateway in this process whose one upstream needs no network."""
    config = scratch / f"{abs(hash(plugins))}.toml"
    config.write_text(_CONFIG + plugins)
    config.chmod(0o600)
    made = Gateway(load(config))
    await made.chain.__aenter__()
    await made.pool.upstreams[0].connect()
    made.catalog.rebuild()
    return made


def calling(gateway: Gateway, era: Any, method: str, params: Mapping[str, Any]) -> Run:
    agent = Agent(Principal("a@127.0.0.1"), era, "2026-07-28" if era == "modern" else "2025-11-25")
    members = jsonrpc.members(jsonrpc.encode(params))

    async def call() -> None:
        result = await gateway.pipeline.call(Exchange(agent, method), members)
        assert result.error is None, result.error

    return call


def beginning(gateway: Gateway, era: Any, params: Mapping[str, Any], principal: Principal = _AGENT) -> Run:
    """A usual call, which needs no task."""
    agent = Agent(principal, era, "2026-07-28" if era == "modern" else "2025-11-25")
    members = jsonrpc.members(jsonrpc.encode(params))
    meta = meta_of(members)

    async def call() -> None:
        done = asyncio.get_running_loop().create_future()
        running = gateway.pipeline.begin(Exchange(agent, "tools/call", meta=meta), members)
        running.add_done_callback(done.set_result)
        await done
        assert running.result().error is None

    return call


async def reading() -> None:
    """One more request on an agent's connection, from bytes to the members of its `_meta`; one header differs."""
    _HEADS.reverse()
    _READER.feed(_HEADS[0] + _BODY)
    head = _READER.head()
    assert head is not None
    body = _READER.body(head, 10_000)
    assert body is not None
    assert meta_of(decode_request(body).members)


_READER = RequestReader(lambda owner, size: None)
_HEADS = [_HEAD.replace(b"Content-Type", b"Traceparent: 00-%032x-01\r\nContent-Type" % number) for number in (1, 2)]


async def ratio(path: Run) -> float:
    """How much one run of `path` costs, in runs of `fixed`."""

    async def turn(subject: Run, times: int) -> float:
        begun = time.process_time()
        for _ in range(times):
            await subject()
        return (time.process_time() - begun) / times

    for _ in range(5):
        await turn(path, 20), await turn(fixed, 20)
    return statistics.median([await turn(path, 20) / await turn(fixed, 10) for _ in range(TURNS)])


async def steps(path: Run) -> int:
    """How many byte codes one run of `path` executes in Python, at least."""
    counts: list[int] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        counts[-1] += event == "opcode"
        return trace

    before = sys.gettrace()
    for _ in range(60):  # while a dashboard watches, the first 40 may be measured
        counts.append(0)
        sys.settrace(trace)
        try:
            await path()
        finally:
            sys.settrace(before)
    return min(counts[2:])  # from Python 3.12 on, what was not traced before shows its byte codes the second time only


class Cost(NamedTuple):
    """What one run of a path costs."""

    steps: int
    time: float


async def measured() -> dict[str, Cost]:
    """The paths, and what each costs."""
    setattr(connection_manager, "connection_to", lambda *_, **__: Fixed())  # noqa: B010 - it is not exported there
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        scratch = Path(folder)

        class Log:
            level, format, file = "INFO", "text", str(scratch / "log")
            max_bytes, kept_files = 0, 0

        output.setup(Log, to_terminal=False)  # type: ignore[arg-type]
        minimal, default = await gateway(scratch, _MINIMAL), await gateway(scratch, _DEFAULT)
        watched = await gateway(scratch, _DEFAULT + "\n")
        watched.pipeline.record_all(True)
        ruled, alice = await gateway(scratch, _POLICY), Principal.proven("alice", issuer="keys", groups=["staff"])
        narrow, preset = [await gateway(scratch, _POLICY + _PROFILE + more) for more in ("", _PRESET)]
        clerk = replace(alice, profile="desk")
        audited, counted = await gateway(scratch, _AUDIT), await gateway(scratch, _METRICS)
        traced = {share: await gateway(scratch, _TRACES % share) for share in ("0.01", "1.0")}
        paths = {
            READING: reading,
            "usual call of a modern agent": beginning(minimal, "modern", _PARAMS),
            "usual call of a legacy agent": beginning(
                minimal, "legacy", {k: _PARAMS[k] for k in ("name", "arguments")}
            ),
            DEFAULT: beginning(default, "modern", _PARAMS),
            "the same with a policy of 50 rules": beginning(ruled, "modern", _PARAMS, alice),
            "the same in a profile": beginning(narrow, "modern", _RENAMED, clerk),
            "the same with an argument that is set": beginning(preset, "modern", _RENAMED, clerk),
            "the same with an audit log instead": beginning(audited, "modern", _PARAMS),
            "the same with metrics instead": beginning(counted, "modern", _PARAMS),
            "the same with traces of 1 % instead": beginning(traced["0.01"], "modern", _PARAMS),
            WATCHED: beginning(watched, "modern", _PARAMS),
            "the same with traces of all instead": beginning(traced["1.0"], "modern", _PARAMS),
            "call of a modern agent": calling(minimal, "modern", "tools/call", _PARAMS),
            "call of a legacy agent": calling(minimal, "legacy", "tools/call", _PARAMS),
            "call with the default plugins": calling(default, "modern", "tools/call", _PARAMS),
            "list of tools": calling(minimal, "modern", "tools/list", {"_meta": _META}),
        }
        found = {name: Cost(time=round(await ratio(path), 3), steps=await steps(path)) for name, path in paths.items()}
        output.flush()
        return found


def main() -> int:
    found = asyncio.run(measured())
    if "--renew" in sys.argv:
        paths = {name: cost._asdict() for name, cost in found.items()}
        RECORDED.write_text(json.dumps({"python": PYTHON, "paths": paths}, indent=2) + "\n")
    recorded = json.loads(RECORDED.read_text())
    known = {name: Cost(**cost) for name, cost in recorded["paths"].items()}
    kept = compare(found, known, same_python=recorded["python"] == PYTHON)
    return 0 if relate(found) and kept else 1


def compare(found: Mapping[str, Cost], recorded: Mapping[str, Cost], *, same_python: bool) -> bool:
    """Tell how what was found compares with what is recorded; whether nothing became dearer."""
    good = True
    for name, now in found.items():
        more, longer = now.steps / recorded[name].steps, now.time / recorded[name].time
        dear = longer > TIME_TOLERANCE or (same_python and more > STEPS_TOLERANCE)
        good = good and not dear
        shown = f"{now.steps:6} steps ({more:.2f} of what is recorded)   time {now.time:.3f} ({longer:.2f})"
        print(f"{name:36} {shown}{'   TOO MUCH' if dear else ''}")
    return good


def relate(found: Mapping[str, Cost]) -> bool:
    """Tell what plugins and a dashboard add to a usual call; whether that is no more than the documentation says."""
    good = True
    for name, most in RELATIONS.items():
        times = (found[name].steps + found[READING].steps) / (found[DEFAULT].steps + found[READING].steps)
        good = good and times <= most
        shown = f"{times:.3f} of the steps of a call with the default plugins, at most {most:g}"
        print(f"{name:36} {shown}{'   TOO MUCH' if times > most else ''}")
    return good


if __name__ == "__main__":
    sys.exit(main())
