import errno
import os
import re
import socket
import subprocess
import sys

import pytest

from gateway_core.cli.serving.port import check, find_holder, in_use_message

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists sockets in /proc")
IN_USE = OSError(errno.EADDRINUSE, "in use")


@linux
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_holder_of_a_port_is_named(family, host):
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen()
        assert re.fullmatch(rf"\S+ \(pid {os.getpid()}\)", find_holder(server.getsockname()[1]))


def test_a_free_port_has_no_holder(free_port):
    assert find_holder(free_port) is None


@linux
def test_the_message_names_address_holder_and_the_three_remedies():
    code = "import socket,sys; s=socket.create_server(('127.0.0.1',0)); print(s.getsockname()[1],flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        port = int(other.stdout.readline())
        text = in_use_message(IN_USE, "127.0.0.1", port)
        other.stdin.close()
    assert f"127.0.0.1:{port}" in text
    assert f"(pid {other.pid})" in text
    for remedy in ("rad mcp proxy status", "rad mcp proxy stop", "change the port"):
        assert remedy in text


def test_without_a_visible_holder_the_remedies_remain(free_port):
    text = in_use_message(IN_USE, "::1", free_port)
    assert f"[::1]:{free_port}" in text
    assert "held by" not in text
    assert "change the port" in text


def test_other_failures_to_bind_are_named():
    text = in_use_message(OSError(errno.EADDRNOTAVAIL, "no"), "192.0.2.1", 80)
    assert text == "cannot listen on 192.0.2.1:80: Cannot assign requested address"


def test_a_name_that_is_no_host_is_explained():
    with pytest.raises(socket.gaierror) as caught:
        check("no-such-host.invalid", 3000)
    text = in_use_message(caught.value, "no-such-host.invalid", 3000)
    assert text.startswith("cannot listen on no-such-host.invalid:3000: ")
    assert "Unknown error" not in text


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_is_checked_without_taking_it(family, host, free_port):
    check(host, free_port)
    with socket.create_server((host, free_port), family=family), pytest.raises(OSError, match="in use"):
        check(host, free_port)
    check("192.0.2.1", free_port)  # other failures are the listener's
