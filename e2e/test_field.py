"""Odd servers: the clients of the official SDKs get through the gateway what they get directly, or more."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "field"), str(HERE / "matrix")]

import run  # noqa: E402 - found on the path above

from tests.field import kinds, pending  # noqa: E402
from tests.field.plan import ANY, is_right  # noqa: E402
from tests.field.table import SDKS  # noqa: E402

LIMITS = {"sessions_per_principal": 10_000}
SETTINGS = {"max_connections": 1000, "security": {"rate_limit_per_minute": 0}, "limits": LIMITS}
BY_SDK = pytest.mark.parametrize("sdk", SDKS)
BY_SERVER = pytest.mark.parametrize("odd", pending.parameters(run.ODD, pending.SERVERS))
pytestmark = pytest.mark.timeout(240)  # the first test of each client waits for all of its servers


@pytest.fixture(scope="module")
def direct(tools: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, run.Ends]:
    """What each client got of each server directly."""
    return run.run_directly(tmp_path_factory.mktemp("direct"))


@pytest.fixture(scope="module")
def gateway(session_launcher: Any, tools: Any) -> Iterator[Any]:
    """One gateway over all odd servers, those that it refuses included."""
    with run.hosted() as urls:
        upstreams = [odd.upstream(urls) for odd in run.ODD]
        port = session_launcher.free_port()
        config = session_launcher.write({"port": port, "upstreams": upstreams, **SETTINGS}, "field")
        running = session_launcher.start(config, port, "field")
        yield running
        running.process.terminate()
        running.process.wait(30)


@pytest.fixture(scope="module")
def through(gateway: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, run.Ends]:
    """What each client got through the gateway, one client after another."""
    folder, found = tmp_path_factory.mktemp("through"), {}
    for sdk in SDKS:
        client = run.start(sdk, run.through(gateway.url), folder)
        try:
            found[sdk] = run.taken(sdk, client, folder)
        finally:
            client.kill()
            client.wait()
    return found


@BY_SERVER
@BY_SDK
def test_a_client_ends_through_the_gateway_as_directly_or_better(
    odd: kinds.OddServer, sdk: str, direct: dict[str, run.Ends], through: dict[str, run.Ends]
) -> None:
    for number, step in enumerate(odd.steps):
        end, before = dict(through[sdk][odd.name].end(number)), dict(direct[sdk][odd.name].end(number))
        if odd.refused:
            assert end.get("got", []) == [], f"{step} is refused: {odd.refused}"
        else:
            assert is_right(step, end), step
        if step["right"] == ANY and "got" in before:
            assert end == before


def test_the_record_of_what_works_directly_is_right(direct: dict[str, run.Ends]) -> None:
    recorded = run.json.loads(run.DIRECT.read_text())
    assert run.failing(direct) == recorded, "run `python e2e/field/run.py --write`, then `make compatibility`"
