"""What a gateway leaves to the next process."""

import os
import socket

import msgspec
import pytest

from gateway_core.control.browsers import Browser
from gateway_core.generations.handover import Handover, Listening


@pytest.fixture
def listening() -> Listening:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Listening("127.0.0.1", 3000, [os.dup(server.fileno())])


def test_a_listener_goes_on_at_its_address(listening: Listening) -> None:
    (found,) = listening.sockets("127.0.0.1", 3000)
    with found, socket.create_connection(found.getsockname()):
        found.accept()[0].close()
    assert list(listening.sockets("127.0.0.1", 3000)) == []


@pytest.mark.parametrize(("host", "port"), [("127.0.0.2", 3000), ("127.0.0.1", 3001)])
def test_a_listener_ends_if_the_address_is_another(listening: Listening, host: str, port: int) -> None:
    (descriptor,) = listening.descriptors
    assert list(listening.sockets(host, port)) == []
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


def test_all_of_it_can_be_written_and_read() -> None:
    left = Handover(
        Listening("h", 1, [3]), Listening("c", 2, [4]), [(5, b"\xff")], b"\0key", [Browser("1", "s", "read", 7.5, "p")]
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(left), type=Handover) == left
    assert left.descriptors == [3, 4, 5]
    assert Handover().descriptors == []
