"""Runs the clients of the official SDKs with the odd servers of `tests/field`, directly and through one gateway.

`python e2e/field/run.py --write` records which clients cannot use which servers directly, in `tests/field/direct.json`;
the table in `docs/compatibility.md` and `e2e/test_field.py` read it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
E2E: Final = HERE.parent
sys.path[:0] = [str(E2E), str(E2E / "matrix")]

from clients import LEGACY_PYTHON, NODE, WORKSPACE_PYTHON  # noqa: E402 - found on the path above

from tests.field.kinds import OddServer, servers  # noqa: E402
from tests.field.plan import ERROR, SILENCE, is_right  # noqa: E402
from tests.field.table import DIRECT, SDKS  # noqa: E402

COMMANDS: Final = {
    "Python 1": (str(LEGACY_PYTHON), str(HERE / "python1.py")),
    "Python 2": (str(WORKSPACE_PYTHON), str(HERE / "python2.py")),
    "TypeScript 1": (str(NODE), str(HERE / "typescript.mjs"), "1"),
    "TypeScript 2": (str(NODE), str(HERE / "typescript.mjs"), "2"),
}
ODD: Final = tuple(servers())
LIMIT: Final = 8.0
"""Seconds for one step; twice as many to connect."""
SHARE: Final = 24
"""Odd servers of one gateway."""
AT_ONCE: Final = 16
PATIENCE: Final = 170.0
"""Seconds for all servers."""

Ends = Mapping[str, "Taken"]


@dataclass(frozen=True)
class Taken:
    """What one client got of one server: an end for each step, or the error of the connection."""

    error: str | None
    ends: Sequence[Mapping[str, Any]]

    def end(self, number: int) -> Mapping[str, Any]:
        return self.ends[number] if number < len(self.ends) else {"error": self.error or "nothing more came"}

    @property
    def is_late(self) -> bool:
        """Whether something did not come in time, which on a busy machine says nothing about the server."""
        return SILENCE in {self.error, *(end.get("error") for end in self.ends)}

    def is_right(self, odd: OddServer) -> bool:
        """Whether every step ended as it should, and no step failed that need not fail."""
        ends = [(step, dict(self.end(number))) for number, step in enumerate(odd.steps)]
        return all(is_right(step, end) and ("error" not in end or step["right"] == ERROR) for step, end in ends)


@contextmanager
def hosted() -> Iterator[dict[str, str]]:
    """The odd servers over HTTP, in a separate process: their URLs by name."""
    command = [str(WORKSPACE_PYTHON), "-m", "tests.field.host"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=E2E.parent) as host:
        assert host.stdout is not None
        yield json.loads(host.stdout.readline())
        host.communicate(timeout=20)


def directly(urls: Mapping[str, str]) -> list[dict[str, Any]]:
    """The work of a client that connects to each server."""
    over_http = [{"server": odd.name, "url": urls[odd.name], "steps": odd.steps} for odd in ODD if odd.name in urls]
    on_stdio = [{"server": odd.name, "command": odd.command, "steps": odd.steps} for odd in ODD if odd.name not in urls]
    return [*on_stdio, *over_http]


def shares() -> list[tuple[OddServer, ...]]:
    """The odd servers of each gateway: some stay down, and many of those keep one gateway busy."""
    return [ODD[start : start + SHARE] for start in range(0, len(ODD), SHARE)]


def through(urls: Mapping[str, str]) -> list[dict[str, Any]]:
    """The work of a client that connects to gateways; `urls` has the address of the gateway of each server."""

    def steps(odd: OddServer) -> list[dict[str, Any]]:
        return [{**step, "name": step.get("through", step.get("name"))} for step in odd.steps]

    return [{"server": odd.name, "url": urls[odd.name], "steps": steps(odd)} for odd in ODD]


def start(sdk: str, jobs: Sequence[Mapping[str, Any]], folder: Path) -> subprocess.Popen[bytes]:
    """Start a client; its output goes to files, so that several can run at once."""
    work = folder / f"{sdk}.json"
    work.write_text(json.dumps({"jobs": jobs, "limit": LIMIT, "at_once": AT_ONCE}))
    with work.open("rb") as given, (folder / f"{sdk}.out").open("wb") as out, (folder / f"{sdk}.err").open("wb") as err:
        return subprocess.Popen(COMMANDS[sdk], stdin=given, stdout=out, stderr=err, cwd=E2E, start_new_session=True)


def taken(sdk: str, client: subprocess.Popen[bytes], folder: Path) -> Ends:
    """What a client got, once it has ended."""
    client.wait(PATIENCE)
    lines = map(json.loads, (folder / f"{sdk}.out").read_text().splitlines())
    return {line["server"]: Taken(line["error"], line["ends"]) for line in lines}


def run_directly(folder: Path) -> dict[str, Ends]:
    """All clients at once, each with separate servers."""
    with ExitStack() as hosts:
        clients = {sdk: start(sdk, directly(hosts.enter_context(hosted())), folder) for sdk in SDKS}
        try:
            return {sdk: taken(sdk, client, folder) for sdk, client in clients.items()}
        finally:
            for client in clients.values():
                client.kill()
                client.wait()


def failing(ends: Mapping[str, Ends]) -> dict[str, list[str]]:
    """The clients that cannot use a server directly, by server."""
    found = {odd.name: [sdk for sdk in SDKS if not ends[sdk][odd.name].is_right(odd)] for odd in ODD}
    return {name: sdks for name, sdks in found.items() if sdks}


def main() -> int:
    parser = argparse.ArgumentParser(description="Clients of the official SDKs with odd servers, directly.")
    parser.add_argument("--write", action="store_true", help=f"write {DIRECT.name}")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = failing(run_directly(Path(folder)))
    text = json.dumps(found, indent=1) + "\n"
    if chosen.write:
        DIRECT.write_text(text)
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
