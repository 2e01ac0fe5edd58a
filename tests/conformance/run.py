"""Runs the official MCP conformance suite, server role, against the reference servers and through the gateway.

One line for each pair and requirement set: passed and all required scenarios, what failed, what was expected to, the
scenarios that are not scored, and the contents that differ. Everything else is in tests/conformance/out/. Exit 1 on a
failure that `expected.toml` does not have, and on one of its failures that passes.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import contents
import suite
from pairs import PAIRS, Pair
from results import Result, known_failures
from stage import Stage, StageError

HERE = Path(__file__).parent
OUT = HERE / "out"
AT_ONCE = 2
"""Pairs that run at the same time."""


def results(pair: Pair) -> list[Result] | StageError:
    """How a pair did, for each of its revisions: all of them meet the same processes."""
    folder = OUT / pair.name.replace(" ", "-")
    found = []
    try:
        with Stage(folder) as scene:
            url = pair.address(scene)
            for revision in pair.revisions:
                wanted = suite.requirements(revision)
                outcomes = suite.run(url, wanted, folder / revision)
                named = f"reference-{pair.server}"
                differ = contents.differences(url, revision, named, pair.neighbours, folder / revision)
                result = Result(pair.name, wanted, outcomes, differ, known_failures(pair.name, revision))
                (folder / revision / "report.txt").write_text(result.report() + "\n")
                found.append(result)
    except StageError as error:
        return error
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help="beginnings of names; all pairs without any")
    beginnings = tuple(parser.parse_args().pairs)
    chosen = [pair for pair in PAIRS if not beginnings or pair.name.startswith(beginnings)]
    if not chosen:
        parser.error(f"no such pair; there are: {', '.join(pair.name for pair in PAIRS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the children of the running pairs end in any case
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    logging.basicConfig(filename=OUT / "clients.log")  # of the SDK, whose warnings belong to no line of the report
    good = True
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for pair, found in zip(chosen, pool.map(results, chosen), strict=True):
            if isinstance(found, StageError):
                print(f"{pair.name}: {found}", flush=True)
                good = False
                continue
            for result in found:
                print(result.line(), flush=True)
                good &= result.good
    print(f"details: {OUT}", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
