import errno
import os
import re
import socket
import subprocess
import sys

import pytest

from gateway_core.cli.instance import acquire
from gateway_core.cli.serving.port import check, find_holder, in_use_message

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists sockets in /proc")
IN_USE = OSError(errno.EADDRINUSE, "in use")


@linux
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_holder_of_a_port_is_named(family, host):
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen()
        assert find_holder(server.getsockname()[1]) == os.getpid()


def test_a_free_port_has_no_holder(free_port):
    assert find_holder(free_port) is None


@linux
def test_the_message_names_another_program_and_does_not_propose_to_stop_a_gateway():
    code = "import socket,sys; s=socket.create_server(('127.0.0.1',0)); print(s.getsockname()[1],flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        port = int(other.stdout.readline())
        text = in_use_message(IN_USE, "127.0.0.1", port)
        other.stdin.close()
    assert f"127.0.0.1:{port}" in text
    assert re.search(rf"held by: \S+ \(pid {other.pid}\)\n", text)
    assert "choose another port, [mcp.proxy] port = …" in text
    assert "or end that program" in text
    assert "rad mcp proxy" not in text


@linux
@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_message_names_the_gateway_of_another_file_and_how_to_stop_it(tmp_path, elsewhere):
    config = tmp_path / "my own.toml"
    folder = tmp_path / "state" if elsewhere else tmp_path
    folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        hold = acquire(config, host="127.0.0.1", port=port, folder=folder)
        try:
            text = in_use_message(IN_USE, "127.0.0.1", port)
        finally:
            hold.release()
    assert f"(pid {os.getpid()}), the gateway of {config}" in text
    more = f" --state-dir {folder}" if elsewhere else ""
    assert f"to stop it: rad mcp proxy stop --config '{config}'{more}\n" in text


def test_without_a_visible_holder_the_remedies_remain(free_port):
    text = in_use_message(IN_USE, "::1", free_port)
    assert f"[::1]:{free_port}" in text
    assert "held by" not in text
    assert "choose another port" in text


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
