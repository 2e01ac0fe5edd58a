"""Odd servers: the clients of the official SDKs get through the gateway what they get directly, or more."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "field"), str(HERE / "matrix")]

import run  # noqa: E402 - found on the path above
from conftest import wait_until  # noqa: E402

from tests.field import kinds  # noqa: E402
from tests.field.plan import ANY, is_right  # noqa: E402
from tests.field.table import DIRECT, SDKS  # noqa: E402

LIMITS = {"sessions_per_principal": 10_000}
SETTINGS = {"max_connections": 1000, "security": {"rate_limit_per_minute": 0}, "limits": LIMITS}
BY_SDK = pytest.mark.parametrize("sdk", SDKS)
BY_SERVER = pytest.mark.parametrize("odd", run.ODD, ids=str)
PATIENT = pytest.mark.timeout(600)  # the first test waits for all clients and servers


@pytest.fixture(scope="module")
def direct(tools: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, run.Ends]:
    """What each client got of each server directly."""
    return run.run_directly(tmp_path_factory.mktemp("direct"))


def all_healthy(gateway: Any, names: set[str]) -> bool:
    """Whether these upstreams are in use; False while the gateway is too busy to say so."""
    try:
        upstreams = gateway.rad("status")["upstreams"]
    except AssertionError:
        return False
    return {each["state"] for each in upstreams if each["name"] in names} == {"healthy"}


@pytest.fixture(scope="module")
def gateways(session_launcher: Any, tools: Any) -> Iterator[dict[str, str]]:
    """Gateways over all odd servers, refused ones included: server name -> address of its gateway."""
    addresses, running = {}, []
    with run.hosted() as urls:
        for number, share in enumerate(run.shares()):
            port, name = session_launcher.free_port(), f"field{number}"
            settings = {"port": port, "upstreams": [odd.upstream(urls) for odd in share], **SETTINGS}
            gateway = session_launcher.start(session_launcher.write(settings, name), port, name)
            running.append((gateway, {odd.name for odd in share if not odd.refused}))
            addresses.update({odd.name: gateway.url for odd in share})
        for gateway, names in running:
            wait_until(lambda of=gateway, names=names: all_healthy(of, names), "all upstreams are healthy", 100)
        yield addresses
        for gateway, _ in running:
            gateway.process.terminate()
            gateway.process.wait(30)


@pytest.fixture(scope="module")
def through(gateways: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, run.Ends]:
    """What each client got through the gateways, one client after another."""
    folder, found = tmp_path_factory.mktemp("through"), {}
    for sdk in SDKS:
        client = run.start(sdk, run.through(gateways), folder)
        try:
            found[sdk] = run.taken(sdk, client, folder)
        finally:
            client.kill()
            client.wait()
    return found


@PATIENT
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


@PATIENT
@BY_SDK
def test_the_record_of_what_works_directly_is_right(sdk: str, direct: dict[str, run.Ends]) -> None:
    recorded = {name for name, sdks in json.loads(DIRECT.read_text()).items() if sdk in sdks}
    right = {odd.name for odd in run.ODD if direct[sdk][odd.name].is_right(odd)}
    late = {odd.name for odd in run.ODD if direct[sdk][odd.name].is_late}
    wrong = {odd.name for odd in run.ODD} - right - late
    assert recorded & right == set(), "run `python e2e/field/run.py --write`, then `make compatibility`"
    assert wrong - recorded == set()
