"""The benchmark's parts: the C programs compile, a measurement runs, wrong answers are noticed, the table is right."""

import hashlib
import http.server
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"

needs_compiler = pytest.mark.skipif(
    shutil.which("gcc") is None or sys.platform != "linux", reason="needs gcc and Linux's /proc"
)


@pytest.fixture
def part(monkeypatch):
    """Imports a module of benchmarks/, which is a folder of scripts and not a package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """The C programs, compiled with every warning an error."""
    folder = tmp_path_factory.mktemp("tools")
    for tool in ("mcpup", "mcpload"):
        argv = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", folder / tool, BENCHMARKS / "src" / f"{tool}.c"]
        subprocess.run(argv, check=True, timeout=60)
    return folder


@needs_compiler
@pytest.mark.parametrize("stage", ["one", "sse"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize(
    "asked",
    [{"size": "1KB"}, {"size": "1MB"}, {"size": "4KB-json"}, {"what": "list"}, {"what": "agent"}],
    ids=["1KB", "1MB", "4KB-json", "list", "agent"],
)
def test_every_answer_of_the_upstream_is_right(part, tools, tmp_path, asked, era, stage):
    matrix = part("matrix")
    upstream, _ = part("targets").upstreams(tools, tmp_path, matrix.STAGES[stage])
    try:
        scenario = matrix.Scenario(era, 4, stage=stage, **asked)
        where = {"upstream_port": upstream.port, "tools": tools}
        figures = part("load").measure(scenario, upstream, **where, warm=0.05, seconds=0.5)
    finally:
        upstream.process.stop()
    assert figures["calls"] > 0
    assert figures["errors"] == 0, figures["first_error"]
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"]
    assert figures["cpu_us"] > 0
    # what was under way at the begin or at the end is counted on one side, and the figure is rounded
    assert figures["upstream_requests"] == pytest.approx(1.0, abs=scenario.connections / figures["calls"] + 0.005)


def test_the_calls_of_agents_as_they_are_cover_every_pair_and_are_the_same_in_each_run(part):
    matrix, mcp_client = part("matrix"), part("mcp_client")
    asks = matrix.agent_calls()
    assert hashlib.sha256(repr(asks).encode()).hexdigest().startswith("610eaf16c4cc")
    assert len({(ask.size, ask.kind, ask.spaced) for ask in asks}) == len(asks) == 16 * 4 * 2
    sizes = {ask.size: len(json.dumps(ask.arguments())) for ask in asks if ask.spaced and not ask.kind}
    assert min(sizes) == 20
    assert max(sizes) == 6000
    assert all(abs(made - size) <= 16 for size, made in sizes.items())
    client = mcp_client.Client(1, "modern")
    for ask in asks[:8]:
        record = client.call_record("", "echo", ask)
        numbered = bytearray(record.data)
        for place in record.places:
            numbered[place : place + 10] = b"2345678901"
        assert b"1000000000" not in numbered
        head, _, body = bytes(numbered).partition(b"\r\n\r\n")
        assert b"traceparent: 00-4bf92f2345678901" in head
        assert b"Content-Length: %d\r\n" % len(body) in head
        assert (b'", "' in body) == ask.spaced
        sent = json.loads(body)
        assert sent["id"] == sent["params"]["_meta"]["progressToken"] == 2345678901
        assert sent["params"]["arguments"]["text"] == "2345678901"


@needs_compiler
def test_each_port_is_an_upstream_with_tools_of_its_own(part, tools, tmp_path):
    upstream, ports = part("targets").upstreams(tools, tmp_path, part("matrix").Stage(upstreams=3, tools=2))
    try:
        clients = [part("mcp_client").Client(port, "legacy") for port in ports]
        assert [client.tools(client.open()) for client in clients] == [
            [["echo", "tool_001"]],
            [["echo_001", "tool_001_001"]],
            [["echo_002", "tool_001_002"]],
        ]
        for client in clients:
            client.close()
    finally:
        upstream.process.stop()


@needs_compiler
def test_the_upstream_speaks_over_stdio(tools):
    lines = [
        {"id": 1, "method": "initialize"},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list"},
    ]
    given = "".join(json.dumps({"jsonrpc": "2.0"} | line) + "\n" for line in lines)
    done = subprocess.run(
        [tools / "mcpup", "-i", "-n", "2"], check=True, input=given, capture_output=True, text=True, timeout=10
    )
    hello, listed = map(json.loads, done.stdout.splitlines())
    assert (hello["id"], hello["result"]["serverInfo"]["name"]) == (1, "mcpup")
    assert [tool["name"] for tool in listed["result"]["tools"]] == ["echo", "tool_001"]


@needs_compiler
def test_a_reader_that_is_slow_gets_the_whole_of_a_large_result(part, tools, tmp_path):
    mcp_client = part("mcp_client")
    upstream, _ = part("targets").upstreams(tools, tmp_path, part("matrix").Stage())
    record = mcp_client.Client(upstream.port, "modern").call_record("", "echo", mcp_client.Ask(repeat=100_000))
    try:
        with socket.socket() as reader:
            # less than the upstream wants to send at once
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(20)
            reader.connect(("127.0.0.1", upstream.port))
            reader.sendall(record.data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            time.sleep(0.1)
            answer = b"".join(iter(lambda: reader.recv(1 << 20), b""))
    finally:
        upstream.process.stop()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.endswith(b"Content-Length: %d" % len(body))
    assert json.loads(body)["result"]["content"][0]["text"] == mcp_client.TEXT * 100_000


class _Answers(http.server.BaseHTTPRequestHandler):
    """Answers every call with what `answer` makes of the request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.dumps(self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-5])
        # so that the end arrives by itself, and cuts a number in two
        time.sleep(0.001)
        self.wfile.write(body[-5:])

    def log_message(self, format, *args):
        pass


def _loaded(part, tools, folder, answer, warm=0.0, wait=0.0):
    """mcpload's figures of a short load on a server that answers so.

    `warm`: seconds before the measured time. `wait`: seconds for which it waits for the benchmark then.
    """
    server = http.server.HTTPServer(("127.0.0.1", 0), type("Handler", (_Answers,), {"answer": answer}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        mcp_client = part("mcp_client")
        record = mcp_client.Client(server.server_port, "modern").call_record("", "echo", mcp_client.Ask())
        file = folder / "records"
        file.write_bytes(part("load").packed(record))
        argv = [tools / "mcpload", str(server.server_port), "1", str(warm), "0.1", file, "1"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout.readline() == "B\n"
            time.sleep(wait)
            output, _ = load.communicate("\n", timeout=10)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    return json.loads(output.splitlines()[-1])


@needs_compiler
@pytest.mark.parametrize("member", ["id", "text"])
def test_an_answer_to_another_call_is_a_wrong_answer(part, tools, tmp_path, member):
    def answer(_, request):
        given = {"id": request["id"], "text": request["params"]["arguments"]["text"]}
        given |= {member: {"id": 1000000000, "text": "1000000000xx"}[member]}
        content = [{"type": "text", "text": given["text"]}]
        return {"jsonrpc": "2.0", "id": given["id"], "result": {"content": content}}

    figures = _loaded(part, tools, tmp_path, answer)
    # the first call alone has the number that all get
    assert figures["errors"] == figures["answers"] - 1 > 0
    assert "bad answer" in figures["first_error"]


@needs_compiler
def test_no_answer_is_missed_at_the_begin_of_the_measured_time(part, tools, tmp_path):
    def answer(_, request):
        content = [{"type": "text", "text": request["params"]["arguments"]["text"]}]
        return {"jsonrpc": "2.0", "id": request["id"], "result": {"content": content}}

    figures = _loaded(part, tools, tmp_path, answer, warm=1, wait=0.3)  # lost answers are looked for each second
    assert figures["answers"] > 0
    assert (figures["errors"], figures["first_error"]) == (0, "")


@needs_compiler
@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
def test_the_end_of_a_long_answer_is_checked_too(part, tools, tmp_path, wrong):
    def answer(_, request):
        content = [{"type": "text", "text": request["params"]["arguments"]["text"] + "x" * 500_000}]
        return {"jsonrpc": "2.0", "result": {"content": content}, "id": request["id"] + wrong}

    figures = _loaded(part, tools, tmp_path, answer)
    assert figures["answers"] > 0
    assert figures["errors"] == (figures["answers"] if wrong else 0)


@needs_compiler
def test_quick_run_prints_the_table_and_succeeds(tmp_path):
    argv = [sys.executable, BENCHMARKS / "run.py", "--quick", "--targets", "direct,aiohttp", "--raw", tmp_path]
    argv += ["--parts", "calls", "--seconds", "0.1", "--connections", "2", "--eras", "modern"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    assert "**One call with a result of 100 B, 2 connections**" in done.stdout
    assert "| upstream alone | modern, 100B |" in done.stdout
    assert "| bare aiohttp proxy | modern, 100B |" in done.stdout
    assert "none was wrong. One call caused one request." in done.stdout
    (raw,) = tmp_path.iterdir()
    assert [json.loads(line).get("target") for line in raw.read_text().splitlines()] == [None, "direct", "aiohttp"]


def test_a_missing_compiler_is_said_plainly(part, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="needs a C compiler"):
        part("processes").build(tmp_path)


def _row(target, turn, cpu_us, **more):
    base = {"part": "calls", "era": "legacy", "connections": 1, "size": "100B", "what": "call", "stage": "one"}
    base |= {"rps": 1000.0, "p50_us": 100.0, "p95_us": 200.0, "p99_us": 300.0, "busy": 0.5, "rss_mb": 10.0}
    base |= {"upstream_requests": 1.0, "errors": 0, "answers": 1000}
    return base | {"target": target, "round": turn, "cpu_us": cpu_us} | more


def _cells(text, start):
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_has_medians_spreads_and_ratios_within_a_round(part):
    rows = [_row("nginx", turn, cpu) for turn, cpu in enumerate((10.0, 20.0, 40.0))]
    rows += [_row("gateway", turn, cpu) for turn, cpu in enumerate((30.0, 40.0, 200.0))]
    rows.append(_row("aiohttp", 0, 0.0) | {"failed": "refused"})
    text = part("report").render({"date": "today"}, rows)
    # ratios 3, 2 and 5 of the rounds, not the ratio of the medians; nothing of what was not measured
    assert _cells(text, "| gateway, default plugins |")[1:5] == ["legacy, 100B", "40.0 [30.0-200]", "3.00", "50%"]
    assert "- bare aiohttp proxy (legacy, 100B, 1): refused" in text


def test_latency_is_what_is_added_to_the_upstreams_own_in_the_round(part):
    rows = [_row("direct", turn, 5.0, p50_us=p50) for turn, p50 in enumerate((50.0, 500.0, 50.0))]
    rows += [_row("nginx", turn, 5.0, p50_us=p50) for turn, p50 in enumerate((150.0, 900.0, 140.0))]
    text = part("report").render({}, rows)
    assert _cells(text, "| upstream alone")[6] == "0.05"
    assert _cells(text, "| nginx")[6] == "+0.10"


def test_wrong_answers_and_further_requests_upstream_are_told(part):
    rows = [_row("gateway", 0, 1.0, errors=3), _row("nginx", 0, 1.0), _row("fastmcp", 0, 1.0, upstream_requests=6.0)]
    text = part("report").render({}, rows)
    assert "3,000 answers were checked, 3 were wrong. gateway, default plugins: 3 wrong." in text
    assert "One call caused one request upstream, except: fastmcp proxy 6.00." in text


def _goals(part, rows, goals="GOALS"):
    lines = part("goals").table(rows, getattr(part("goals"), goals))[2:]
    return {what: rest for what, *rest in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}


def test_a_goal_is_the_median_of_the_ratios_of_the_rounds(part):
    common = {"connections": 16}
    rows = [_row("nginx", turn, cpu, **common) for turn, cpu in enumerate((10.0, 20.0, 40.0))]
    rows += [_row("gateway-quiet", turn, cpu, **common) for turn, cpu in enumerate((30.0, 40.0, 200.0))]
    assert _goals(part, rows) == {
        "CPU of a call, default plugins, no payload log": ["≤ 3 times nginx", "3.00", "yes"],
    }
    rows += [_row(row["target"], row["round"], row["cpu_us"] ** 2, **common, era="modern") for row in rows]
    assert _goals(part, rows) == {
        "CPU of a call, default plugins, no payload log": ["≤ 3 times nginx", "legacy 3.00, modern 9.00", "**no**"],
    }


def test_a_goal_against_itself_compares_with_the_usual_call_of_the_same_part(part):
    def quiet(part, cpu, **more):
        return _row("gateway-quiet", 0, cpu, part=part, connections=16, **more)

    rows = [quiet("calls", 500.0), quiet("sizes", 100.0), quiet("sizes", 118.0, size="10KB")]
    rows += [quiet("fleets", 200.0), quiet("fleets", 260.0, stage="100 upstreams")]
    assert _goals(part, rows) == {
        "CPU of a call, 100 upstreams": ["≤ 1.1 times one", "1.30", "**no**"],
        "CPU of a call, result of 10 KB": ["≤ 1.2 times 100 B", "1.18", "yes"],
    }


def test_added_latency_is_compared_with_what_nginx_adds(part):
    rows = [_row("direct", 0, 1.0, p50_us=50.0), _row("nginx", 0, 1.0, p50_us=100.0)]
    rows += [_row("gateway-quiet", 0, 1.0, p50_us=170.0)]
    assert _goals(part, rows)["added p50, 1 connection"] == ["≤ 2.5 times nginx", "2.40", "yes"]


def test_peers_are_to_cost_a_multiple_of_ours(part):
    rows = [_row("gateway-quiet", 0, 100.0, connections=16), _row("fastmcp", 0, 25_000.0, connections=16)]
    assert _goals(part, rows, "PEER_GOALS") == {
        "CPU of a call of fastmcp's proxy": ["≥ 300 times ours", "250", "**no**"]
    }


def test_figures_without_an_era_are_goals_too(part):
    rows = [{"part": "startup", "status_ms": 90.0}]
    assert _goals(part, rows) == {"`rad mcp proxy status`": ["≤ 150 ms", "90.0", "yes"]}


def test_every_scenario_and_target_has_a_name_in_the_tables(part):
    matrix, report = part("matrix"), part("report")
    names = {*part("targets").NAMES, *part("peers").NAMES}
    assert names == set(report.TITLES)
    for each in matrix.PARTS:
        scenarios = matrix.plan(each, [1, 16], matrix.ERAS, list(matrix.SIZES))
        labels = [(scenario.label, scenario.connections) for scenario in scenarios]
        assert len(set(labels)) == len(labels) > 0
        assert matrix.targets_of(each, list(names))


def test_publishing_changes_only_what_stands_between_the_markers(part, tmp_path):
    report = part("report")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- profile: begin -->\nold\n<!-- profile: end -->\nafter\n")
    report.publish(page, "profile", "new")
    assert page.read_text() == "before\n<!-- profile: begin -->\n\nnew\n\n<!-- profile: end -->\nafter\n"
    with pytest.raises(ValueError, match="markers"):
        report.publish(page, "benchmark", "new")


@pytest.mark.parametrize("section", ["benchmark", "peers", "profile"])
def test_the_page_has_the_markers(part, section):
    text = part("report").PAGE.read_text(encoding="utf-8")
    assert text.count(f"<!-- {section}: begin -->") == text.count(f"<!-- {section}: end -->") == 1


def test_samples_count_for_the_innermost_frame_outside_the_standard_library(part):
    hotpath = part("hotpath")
    ours, theirs = (
        f"call ({ROOT}/gateway_core/pipeline/pipeline.py:10)",
        "write (/x/site-packages/aiohttp/http_writer.py:20)",
    )
    standard, start = f"dumps ({json.__file__}:30)", f"start ({ROOT}/gateway_core/cli/serving/serve.py:40)"
    owned, within = hotpath.owners(f"{ours};{theirs} 3\n{ours};{standard} 2\n{start};{standard} 1\n")
    assert owned == {"aiohttp": 3, "gateway_core.pipeline.pipeline": 2, "event loop": 1}
    assert within == {
        "gateway_core.pipeline.pipeline: call": 5,
        "aiohttp: write": 3,
        "gateway_core.cli.serving.serve: start": 1,
    }


def test_every_sample_counts_for_one_part_of_the_published_table(part):
    hotpath = part("hotpath")
    core = {"http1.writer": 4, "log.sink": 1, "pipeline.router": 2}
    owned = {"event loop": 1, "zlib": 2, **{f"gateway_core.{module}": samples for module, samples in core.items()}}
    rows = hotpath.published({"gateway": hotpath.Counter(owned)}).splitlines()[2:]
    shares = {title: int(share.rstrip("%")) for title, share in (row.strip("| ").split(" | ") for row in rows)}
    assert shares["pipeline, router, catalog, plugin chain"] == 20
    assert shares["HTTP from agents, with the kernel's share"] == 40
    assert shares["log"] == 10
    assert shares["the rest"] == 20
    assert sum(shares.values()) == 100


def test_a_flame_graph_has_callers_below_and_shares_as_widths(part):
    hotpath, flame = part("hotpath"), part("flame")
    start, call = (
        f"start ({ROOT}/gateway_core/cli/serving/serve.py:40)",
        f"call ({ROOT}/gateway_core/pipeline/pipeline.py:10)",
    )
    send, dumps = f"send ({ROOT}/gateway_core/upstream/transports/http.py:5)", f"dumps ({json.__file__}:30)"
    raw = f"{start};{send} 100\n{start};{call};{send} 60\n{start};{call};{dumps} 39\n{start};{call};{send};{call} 1\n"
    stacks = hotpath.stacks(f"{raw}{start} 7\n")
    drawn = xml.etree.ElementTree.fromstring(flame.draw("<title>", stacks, hotpath.part, (*hotpath.PARTS, "the rest")))
    space = "{http://www.w3.org/2000/svg}"
    frames = {group.find(f"{space}title").text: group.find(f"{space}rect").attrib for group in drawn.iter(f"{space}g")}
    below = frames["gateway_core.pipeline.pipeline: call: 50.0%"]
    above = frames["gateway_core.upstream.transports.http: send: 30.5%"]
    assert "all samples: 100.0%" in frames
    assert float(below["y"]) > float(above["y"])
    assert (float(below["width"]), float(above["width"])) == (499.5, 304.5)
    assert float(below["x"]) <= float(above["x"])
    assert below["fill"] != above["fill"]


def test_bars_stand_in_decades_on_a_logarithmic_scale(part):
    drawn = xml.etree.ElementTree.fromstring(
        part("charts").draw("µs <of> a call", [("nginx", 20.0), ("gateway", 200.0)])
    )
    bars = [float(bar.get("width")) for bar in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    lines = [float(line.get("x1")) for line in drawn.iter("{http://www.w3.org/2000/svg}line")]
    # 10, 100 and 1000; ten times as much is one of their distances longer
    assert len(lines) == 3
    assert bars[1] - bars[0] == pytest.approx(lines[1] - lines[0], abs=0.2)


def test_charts_show_what_was_measured(part, tmp_path):
    charts = part("charts")
    rows = [
        _row("direct", 0, 5.0, p50_us=50.0),
        _row("nginx", 0, 5.0, p50_us=90.0),
        _row("nginx", 0, 7.0, connections=16),
    ]
    assert charts.cpu(rows) == [("nginx", 7.0)]
    assert charts.latency(rows) == [("nginx", 40.0)]
    shown = charts.publish(tmp_path / "page.md", "benchmark", rows)
    assert [path.name for path in sorted((tmp_path / "img").iterdir())] == [
        "benchmark-cpu.svg",
        "benchmark-latency.svg",
    ]
    assert "(img/benchmark-cpu.svg)" in shown
    assert charts.publish(tmp_path / "page.md", "benchmark", []) == ""


def test_the_guard_complains_beyond_its_tolerance_only(part, capsys):
    guard = part("guard")
    recorded = {"call": guard.Cost(2000, 2.0), "list": guard.Cost(1000, 1.0)}

    def good(steps, time, same_python=True):
        found = {"call": guard.Cost(steps, time), "list": guard.Cost(100, 0.1)}
        answer = guard.compare(found, recorded, same_python=same_python)
        assert capsys.readouterr().out.count("TOO MUCH") == (not answer)
        return answer

    assert good(1.99 * 1000 * guard.STEPS_TOLERANCE, 1.99 * guard.TIME_TOLERANCE)
    assert not good(2010 * guard.STEPS_TOLERANCE, 2.0)
    assert good(2010 * guard.STEPS_TOLERANCE, 2.0, same_python=False), "another Python has other byte codes"
    assert not good(2000, 2.1 * guard.TIME_TOLERANCE)


def test_the_guard_limits_what_plugins_and_a_dashboard_add(part, capsys):
    guard = part("guard")
    found = {guard.READING: guard.Cost(500, 1.0), guard.DEFAULT: guard.Cost(2500, 1.0)}
    most = {name: guard.Cost(int(3000 * times) - 500, 1.0) for name, times in guard.RELATIONS.items()}
    assert guard.relate({**found, **most})
    for name, cost in most.items():
        assert not guard.relate({**found, **most, name: guard.Cost(cost.steps + 1, 1.0)})
    assert capsys.readouterr().out.count("TOO MUCH") == len(most)


async def test_the_guard_counts_steps(part):
    guard = part("guard")

    async def some(number):
        for _ in range(number):
            pass

    few, many = [await guard.steps(lambda number=number: some(number)) for number in (10, 1010)]
    assert 1000 <= many - few < 5000
    assert few == await guard.steps(lambda: some(10)), "it is the same each time"


def test_children_that_have_ended_count_for_their_parent(part, tmp_path):
    processes = part("processes")
    busy = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    code = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {busy!r}]); print(flush=True)\n"
    code += "time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        used = processes.cpu_seconds(parent.pid)
        parent.kill()
    assert used > 0.19


@pytest.mark.parametrize("plugin", ["before_call", "after_call", "both"])
def test_the_empty_plugins_are_a_distribution_that_the_gateway_finds(part, tmp_path, plugin):
    env = os.environ | part("hooks")._distribution(tmp_path)
    code = "import sys; from importlib.metadata import entry_points as all\n"
    code += "(found,) = all(group='gateway_core', name=sys.argv[1]); print(found.load().__doc__)"
    argv = [sys.executable, "-c", code, f"bench_{plugin}"]
    said = subprocess.run(argv, check=True, env=env, capture_output=True, text=True, timeout=20).stdout
    assert said.strip() == part("hooks").PLUGINS[plugin].__doc__


@needs_compiler
def test_a_servers_own_start_ends_with_its_list(part, tools):
    took, listed = part("startup")._server_start([str(tools / "mcpup"), "-i", "-n", "7"])
    assert listed == 7
    assert 0 < took < 10_000


def test_only_whole_answers_without_an_error_count_as_calls(part):
    read = part("instructions")._read_answer
    ours, theirs = socket.socketpair()
    with ours, theirs:
        body = b'{"jsonrpc":"2.0","id":1,"result":{}}'
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        theirs.sendall(answer[:20])
        threading.Timer(0.1, theirs.sendall, [answer[20:]]).start()
        read(ours)
        theirs.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(RuntimeError, match="503"):
            read(ours)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(RuntimeError, match="closed"):
            read(ours)


def test_what_is_started_by_another_program_is_so_only_inside(part, tmp_path):
    processes = part("processes")
    port = processes.free_port()
    argv = [sys.executable, "-c", "import sys; print('last', sys.argv[1:])"]
    for prefix, said in (
        ([sys.executable, "-c", "import sys; print('first', sys.argv[-1][:5])"], "first"),
        ([], "last"),
    ):
        log = tmp_path / said
        with processes.started_by(prefix), pytest.raises(RuntimeError, match="it ended with 0"):
            processes.Process(argv, cpu=processes.cpus()[0], port=port, log=log)
        assert log.read_text().startswith(said)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
@needs_compiler
def test_instructions_of_a_call_are_counted(part, tools, monkeypatch):
    monkeypatch.setattr(part("processes"), "OUT", tools)
    instructions = part("instructions")
    monkeypatch.setattr(instructions, "ROUNDS", 5)
    found, shown = instructions.count("gateway-min", part("matrix").Scenario("modern", 2), functions=3)
    assert 50_000 < found < 500_000
    assert "python" in shown


@needs_compiler
def test_one_call_is_traced_from_the_agent_to_the_upstream_and_back():
    argv = [sys.executable, str(BENCHMARKS / "trace.py"), "--list"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120)
    traces = done.stdout.split("agent, upstream over ")[1:]
    assert len(traces) == 2
    for trace in traces:
        first, *calls = [line.strip() for line in trace.splitlines() if line.startswith(("  ", "HTTP", "stdio"))]
        assert first.split()[1] == str(len(calls))
        assert calls[0] == "http1/connection.py: ServerConnection.data_received"
        for once in ("Delivery._run", "Delivery._serve", "Router.dispatch", "Upstream.request"):
            assert calls.count(next(call for call in calls if call.endswith(f": {once}"))) == 1, "resumed, not called"
