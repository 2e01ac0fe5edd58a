"""How many instructions a call executes in the target's own code, counted by valgrind.

    python instructions.py                                        # nginx and the three forms of the gateway
    python instructions.py --targets gateway-min --functions 40   # where they are

Without the kernel, and without a clock: the figures are those of the program and its libraries, whatever else the
machine does and whatever processor it has, so that a hundredth more or less can be seen. They are no times: a look that
misses the cache counts as much as one that does not. Takes half a minute for each target; needs valgrind.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import processes
import targets
from load import requests_of
from matrix import SIZES, STAGES, Scenario
from mcp_client import NUMBER, Client, Record
from report import TITLES

CONNECTIONS = 16
WARM, ROUNDS = 32, 32
"""Calls of each connection, before and while instructions are counted: 16 connections that begin at different places
send each of the 128 calls of `agent_calls` equally often."""
TURNS = 3
"""How often they are counted; the least is reported."""
AGENT = "as-they-are"
"""Stands among the sizes for the calls of agents as they are."""


def count(name: str, scenario: Scenario, functions: int = 0) -> tuple[int, str]:
    """Instructions of one call of `scenario`, and the `functions` that execute most of them, as text."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise SystemExit("valgrind is not installed (apt-get install valgrind)")
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        upstream, ports = targets.upstreams(processes.OUT, scratch, STAGES[scenario.stage])
        stack.callback(upstream.process.stop)
        found = scratch / "callgrind"
        argv = [valgrind, "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={found}"]
        with processes.started_by(argv):
            target = targets.LAUNCHERS[name](ports, scratch)
        stack.callback(target.process.stop)
        client = Client(target.port, scenario.era, target.path)
        stack.callback(client.close)
        sessions = tuple(client.open() for _ in range(scenario.connections if scenario.era == "legacy" else 1))
        asked = requests_of(client, scenario, sessions)
        address = ("127.0.0.1", target.port)
        agents = [
            (
                stack.enter_context(socket.create_connection(address, 30)),
                itertools.cycle(_from(asked[number % len(asked)], number / scenario.connections)),
            )
            for number in range(scenario.connections)
        ]
        numbers = itertools.count(NUMBER)

        def calls(rounds: int) -> None:
            for _ in range(rounds):
                for agent, records in agents:
                    agent.sendall(_numbered(next(records), next(numbers)))
                for agent, _ in agents:
                    _read_answer(agent)

        def control(*order: str) -> None:
            argv = ["callgrind_control", *order, str(target.process.pid)]
            subprocess.run(argv, check=True, capture_output=True, timeout=60)

        def counted(turn: int) -> tuple[int, Path]:
            control("-i", "on")
            calls(ROUNDS)
            control("-i", "off")
            control("-d")
            dump = found.with_name(f"callgrind.{turn}")
            total = next(line for line in dump.read_text().splitlines() if line.startswith("totals:"))
            return int(total.split()[1]), dump

        calls(WARM)
        # what the target does beside the calls, such as its last steps of the start, only adds
        least, dump = min(counted(turn) for turn in range(1, TURNS + 1))
        shown = _functions(dump, functions) if functions else ""
        return least // (ROUNDS * len(agents)), shown


def _from(records: list[Record], share: float) -> list[Record]:
    """The same records, beginning after this share of them."""
    start = int(share * len(records))
    return records[start:] + records[:start]


def _numbered(record: Record, number: int) -> bytes:
    """A request whose ten digits are those of `number`."""
    data = bytearray(record.data)
    for place in record.places:
        data[place : place + 10] = b"%010d" % number
    return bytes(data)


def _read_answer(agent: socket.socket) -> None:
    """Read one answer of known length, and see that it is none of an error."""
    data = b""
    while (end := data.find(b"\r\n\r\n") + 4) < 4 or len(data) < end + _length(data[:end]):
        more = agent.recv(1 << 18)
        if not more:
            raise RuntimeError(f"the connection was closed after {data[:200]!r}")
        data += more
    if not data.startswith(b"HTTP/1.1 200 ") or b'"result":' not in data:
        raise RuntimeError(f"not the answer: {data[:300]!r}")


def _length(head: bytes) -> int:
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    return int(fields[b"content-length"])


def _functions(dump: Path, most: int) -> str:
    argv = ["callgrind_annotate", "--threshold=100", str(dump)]
    shown = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout
    lines = [line for line in shown.splitlines() if "%)" in line and ":" in line]
    return "\n".join(lines[1 : most + 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--targets", default="nginx,gateway-min,gateway-quiet,gateway", help="default: %(default)s")
    parser.add_argument(
        "--sizes",
        default="100B,as-they-are,4KB-prose,4KB-json,1KB",
        help=f"of {', '.join((AGENT, *SIZES))}; default: %(default)s",
    )
    parser.add_argument("--eras", default="legacy,modern", help="default: %(default)s")
    parser.add_argument("--functions", type=int, default=0, help="how many functions to show of each target")
    options = parser.parse_args()
    processes.build()
    print("| target | agents | instructions of a call | of nginx |\n|---|---|---:|---:|")
    for size in options.sizes.split(","):
        for era in options.eras.split(","):
            of_nginx = None
            for name in options.targets.split(","):
                agent = size == AGENT
                scenario = Scenario(era, CONNECTIONS, what="agent") if agent else Scenario(era, CONNECTIONS, size)
                found, shown = count(name, scenario, options.functions)
                of_nginx = found if name == "nginx" else of_nginx
                ratio = f"{found / of_nginx:.1f}" if of_nginx else "-"
                print(
                    f"| {TITLES[name]} | {scenario.label} | {found:,} | {ratio} |",
                    shown,
                    sep="\n" * bool(shown),
                    flush=True,
                )


if __name__ == "__main__":
    main()
