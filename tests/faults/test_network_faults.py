"""Rows of the fault matrix in which packets disappear without a trace, in network namespaces that the tests make.

The gateway and its upstream are in two namespaces with a wire between them. Agents are commands in the gateway's.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.conftest import Started, over_http, over_stdio, wait_until

GATEWAY, SERVER, NOWHERE, MOVING = (f"10.97.0.{number}" for number in range(1, 5))
HARDWARE = "02:00:00:00:00:02"


@dataclass
class Net:
    """Two namespaces: the command `near` enters the gateway's, and `far` the server's."""

    near: tuple[str, ...]
    far: tuple[str, ...]

    def ip(self, side: tuple[str, ...], *arguments: str) -> None:
        subprocess.run([*side, "ip", *arguments], check=True, timeout=60)

    def swallow(self, address: str) -> None:
        """Send packets to an address to the far interface, which drops them silently unless the address is its own.

        Without this entry among the neighbours, ARP would find out that no interface has the address.
        """
        self.ip(self.near, "neigh", "replace", address, "lladdr", HARDWARE, "dev", "near", "nud", "permanent")


@pytest.fixture
def net(started: Started) -> Net:
    """Skips where the system gives no network namespaces."""

    def namespace(*inside: str) -> tuple[str, ...]:
        """Make a namespace that ends with the test: the command that enters it."""
        own_user = () if inside else ("--user", "--map-root-user")
        ready = "echo ready; exec sleep 600"
        holder = started.popen(*inside, "unshare", *own_user, "--net", "sh", "-c", ready, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            pytest.skip("the system gives no network namespaces")
        return ("nsenter", "--target", str(holder.pid), "--user", "--preserve-credentials", "--net")

    try:
        near = namespace()
        far = namespace(*near)
    except FileNotFoundError:
        pytest.skip("unshare and nsenter of util-linux are not installed")
    made = Net(near, far)
    link = f"link add near type veth peer name far address {HARDWARE} netns {far[2]}"
    try:
        made.ip(near, *link.split())
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no pair of virtual network interfaces can be made (ip of iproute2, and veth)")
    for side, name, address in ((near, "near", GATEWAY), (far, "far", SERVER)):
        made.ip(side, "link", "set", "lo", "up")
        made.ip(side, "address", "add", f"{address}/24", "dev", name)
        made.ip(side, "link", "set", name, "up")
    return made


@pytest.mark.timeout(300)
def test_row_10_packets_of_a_new_connection_disappear(started: Started, net: Net) -> None:
    """The connection is given up before the call's deadline, and the replica gets the call."""
    for address in (MOVING, NOWHERE):
        net.swallow(address)
    net.ip(net.far, "address", "add", f"{MOVING}/24", "dev", "far")
    first, journal_of_first = started.server("first", 8000, MOVING, net.far)
    second, journal = started.server("second", 0, SERVER, net.far)
    rad = started.gateway(
        [
            over_http("first", first, group="both", priority=1, health_check_interval=3600),
            over_http("second", second, group="both", priority=2),
            over_http("nowhere", f"http://{NOWHERE}:8000/mcp"),
        ],
        inside=net.near,
        plugins=[{"name": "routing_priority"}],
        timeout=30,
    )
    rad.wait_for("first", "second")
    assert good(rad.command("call", "ok"))
    assert journal_of_first.read_text() == "ok\n"
    started.stop_server(8000)
    net.ip(net.far, "address", "del", f"{MOVING}/24", "dev", "far")
    assert good(rad.command("call", "ok")), "the call waited for the connection and went on to the replica"
    assert journal.read_text() == "ok\n"
    assert journal_of_first.read_text() == "ok\n"
    rad.wait_for("nowhere", state="down")
    assert "connect" in rad.status()["nowhere"]["last_error"]


@pytest.mark.timeout(300)
def test_row_11_half_open_connection(started: Started, net: Net) -> None:
    """The server disappears with a call in flight: its outcome is unknown, and others go on."""
    net.swallow(SERVER)
    url, journal = started.server("wild", 0, SERVER, net.far)
    rad = started.gateway(
        [over_http("wild", url, timeout=10, health_check_interval=1), over_stdio("pipe")], inside=net.near
    )
    rad.wait_for("wild", "pipe")
    assert good(rad.command("call", "wild__ok"))
    with ThreadPoolExecutor() as threads:
        in_flight = threads.submit(rad.command, "call", "wild__ok", "--arg", "seconds=8")
        wait_until(lambda: journal.read_text().splitlines() == ["ok"] * 2, "the call is in flight")
        net.ip(net.far, "address", "del", f"{SERVER}/24", "dev", "far")
        assert good(rad.command("call", "pipe__ok"))
        assert "Outcome unknown" in str(in_flight.result())
    assert journal.read_text().splitlines() == ["ok"] * 2, "nothing was sent twice"


def good(answer: Any) -> bool:
    """Whether a call had the result `ok`."""
    return answer.get("content") == [{"type": "text", "text": "ok"}] and not answer.get("isError")
