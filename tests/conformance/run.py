"""Runs the official MCP conformance suite, server role, against the reference servers and through the gateway.

One line for each pair and requirement set: passed and all required scenarios, what failed, what was expected to, the
scenarios that are not scored, and the contents that differ. Everything else is in tests/conformance/out/. Exit 1 on a
failure that `expected.toml` does not have, and on one of its failures that passes.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import contents
import stage
import suite
from results import Result, known_failures
from stage import Stage, StageError

HERE = Path(__file__).parent
OUT = HERE / "out"
LEGACY, MODERN = "2025-11-25", "2026-07-28"

Upstream = dict[str, Any]


def http(kind: str) -> Callable[[Stage], Upstream]:
    return lambda scene: {"name": kind, "transport": "http", "url": scene.server(kind)}


def stdio(kind: str) -> Callable[[Stage], Upstream]:
    program, *args = stage.command(kind)
    return lambda scene: {"name": kind, "transport": "stdio", "command": program, "args": args}


@dataclass(frozen=True, slots=True)
class Pair:
    """What the suite talks to: a reference server directly, or a gateway with these upstreams, the first one meant."""

    name: str
    revisions: tuple[str, ...]
    server: str
    upstreams: tuple[Callable[[Stage], Upstream], ...] = ()
    neighbours: Mapping[str, str] = field(default_factory=dict)
    """Prefix of the other upstreams' names -> the name that such a server calls itself."""

    def address(self, scene: Stage) -> str:
        if not self.upstreams:
            return scene.server(self.server)
        return scene.gateway([make(scene) for make in self.upstreams])


PAIRS = (
    Pair("direct dual", (LEGACY, MODERN), "dual"),
    Pair("direct legacy", (LEGACY,), "legacy"),
    Pair("direct modern", (MODERN,), "modern"),
    Pair("through http", (LEGACY, MODERN), "dual", (http("dual"),)),
    Pair("through stdio", (LEGACY, MODERN), "dual", (stdio("dual"),)),
    Pair(
        "beside",
        (LEGACY, MODERN),
        "dual",
        (http("dual"), stdio("legacy"), http("modern")),
        {"legacy__": "reference-legacy", "modern__": "reference-modern"},
    ),
    Pair("through legacy http", (LEGACY,), "legacy", (http("legacy"),)),
    Pair("through legacy stdio", (LEGACY,), "legacy", (stdio("legacy"),)),
    Pair("bridged to legacy", (MODERN,), "legacy", (http("legacy"),)),
    Pair("bridged to modern", (LEGACY,), "modern", (http("modern"),)),
    Pair("no-result-type", (MODERN,), "modern", (http("modern-without-result-type"),)),
)


def results(pair: Pair) -> Iterator[Result]:
    """Both sets of a pair meet the same processes."""
    folder = OUT / pair.name.replace(" ", "-")
    with Stage(folder) as scene:
        url = pair.address(scene)
        for revision in pair.revisions:
            wanted = suite.requirements(revision)
            outcomes = suite.run(url, wanted, folder / revision)
            named = f"reference-{pair.server}"
            differ = contents.differences(url, revision, named, pair.neighbours, folder / revision)
            result = Result(pair.name, wanted, outcomes, differ, known_failures(pair.name, revision))
            (folder / revision / "report.txt").write_text(result.report() + "\n")
            yield result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help="beginnings of names; all pairs without any")
    beginnings = tuple(parser.parse_args().pairs)
    chosen = [pair for pair in PAIRS if not beginnings or pair.name.startswith(beginnings)]
    if not chosen:
        parser.error(f"no such pair; there are: {', '.join(pair.name for pair in PAIRS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the children end in any case
    shutil.rmtree(OUT, ignore_errors=True)
    good = True
    for pair in chosen:
        try:
            for result in results(pair):
                print(result.line(), flush=True)
                good &= result.good
        except StageError as error:
            print(f"{pair.name}: {error}", flush=True)
            good = False
    print(f"details: {OUT}", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
