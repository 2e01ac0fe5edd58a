import fcntl
import json
import os
import subprocess
import sys
import time

import pytest

from gateway_core.cli import instance as module
from gateway_core.cli.instance import AlreadyRunning, Instance, Locked, OtherVersion, acquire, pid_file, read_instance
from gateway_core.cli.locate import locate
from gateway_core.cli.report import Failed
from gateway_core.cli.running import holder as holder_of
from gateway_core.cli.running import instance_of
from gateway_core.cli.state.folder import state_folder
from gateway_core.errors import GatewayError

HOLDER = """
import sys, time
from pathlib import Path
from gateway_core.cli.instance import AlreadyRunning, acquire
try:
    hold = acquire(Path(sys.argv[1]), host="127.0.0.1", port=3000)
except AlreadyRunning as error:
    print("lost", error, flush=True)
else:
    print("won", flush=True)
    sys.stdin.read()
    hold.release()
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "mcp-proxy.toml"
    path.touch()
    return path


@pytest.fixture
def holder(config):
    """`holder()` starts a process that becomes the instance of `config`, and gives its first line of output."""
    children = []

    def start() -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_the_file_is_private_and_says_who_runs(config):
    hold = acquire(config, host="127.0.0.1", port=3000, drain_timeout=7.5)
    path = config.with_name("mcp-proxy.pid")
    assert path.stat().st_mode & 0o777 == 0o600
    found = read_instance(path)
    assert isinstance(found, Instance)
    assert (found.pid, found.host, found.port, found.drain_timeout) == (os.getpid(), "127.0.0.1", 3000, 7.5)
    assert len(found.token) >= 32
    assert set(json.loads(path.read_text())) >= {"format", "pid", "host", "port", "token", "started"}
    assert found.control_port == 0
    hold.control_listens("::1", 3100)
    assert read_instance(path).control_address == "http://[::1]:3100"
    hold.release()
    hold.release()
    assert not path.exists()
    assert read_instance(path) is None


def test_the_token_is_not_shown(config):
    hold = acquire(config, host="127.0.0.1", port=3000)
    assert hold.instance.token not in repr(hold.instance)
    hold.release()


def test_a_second_start_is_refused_with_pid_and_address(config):
    hold = acquire(config, host="0.0.0.0", port=3000)
    with pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}, http://127.0.0.1:3000"):
        acquire(config, host="127.0.0.1", port=3001)
    hold.release()


def test_twenty_parallel_starts_leave_exactly_one(config, holder):
    pid_file(config).write_text('{"pid": 1, "garbage')
    children = [holder() for _ in range(20)]
    said = [child.stdout.readline() for child in children]
    assert sum(line == "won\n" for line in said) == 1
    winner = children[said.index("won\n")]
    assert read_instance(pid_file(config)).pid == winner.pid
    assert all(f"pid {winner.pid}" in line for line in said if line != "won\n")


def test_a_killed_process_blocks_no_later_start(config, holder):
    child = holder()
    assert child.stdout.readline() == "won\n"
    child.kill()
    child.wait()
    assert pid_file(config).exists()
    assert read_instance(pid_file(config)) is None
    acquire(config, host="127.0.0.1", port=3000).release()


def test_a_stale_file_with_the_pid_of_a_stranger_blocks_no_start(config):
    with subprocess.Popen(["sleep", "60"]) as stranger:
        stale = {"pid": stranger.pid, "host": "127.0.0.1", "port": 3000, "token": "t", "started": time.time()}
        pid_file(config).write_text(json.dumps(stale))
        assert read_instance(pid_file(config)) is None
        hold = acquire(config, host="127.0.0.1", port=3000)
        assert read_instance(pid_file(config)).pid == os.getpid()
        hold.release()
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("garbage", [b"", b"\xff\x00\n", b"[1]", b"{}", b"[" * 100_000, b"12345\n", b'{"pid": -1}'])
def test_garbage_blocks_no_start(config, garbage):
    pid_file(config).write_bytes(garbage)
    assert read_instance(pid_file(config)) is None
    acquire(config, host="127.0.0.1", port=3000).release()


@pytest.mark.parametrize("pid", [-1, 0, True, "5", None])
def test_a_locked_file_never_names_a_pid_that_means_more_than_a_process(config, pid, monkeypatch):
    monkeypatch.setattr(module, "READ_PATIENCE", 0.1)
    instance = {"pid": pid, "host": "h", "port": 1, "token": "t", "started": 1.0, "drain_timeout": 1.0}
    pid_file(config).write_text(json.dumps(instance))
    with pid_file(config).open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert read_instance(pid_file(config)) == Locked(pid_file(config))


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux tells who holds a lock")
def test_a_start_that_has_not_written_yet_is_not_taken_for_its_predecessor(config, monkeypatch):
    """Between locking and writing, the file still names a process that ended long ago: it must not be signalled."""
    monkeypatch.setattr(module, "READ_PATIENCE", 0.2)
    acquired = acquire(config, host="127.0.0.1", port=3000)
    stale = {**json.loads(pid_file(config).read_text()), "pid": 999_999}
    acquired.release()
    pid_file(config).write_text(json.dumps(stale))
    with pid_file(config).open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert read_instance(pid_file(config)) == Locked(pid_file(config))


@pytest.mark.parametrize("number", [None, 0, 99])
def test_a_gateway_of_another_version_is_recognised_by_the_format_of_its_file(config, number, monkeypatch):
    """What older versions wrote had no number, and newer ones may write anything beside pid and drain_timeout."""
    monkeypatch.setattr(module, "LOCK_PATIENCE", 0.1)
    written = {"pid": os.getpid(), "host": "127.0.0.1", "port": 3000, "token": "t", "drain_timeout": 7, "more": [1]}
    pid_file(config).write_text(json.dumps(written if number is None else {"format": number, **written}))
    with pid_file(config).open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert read_instance(pid_file(config)) == OtherVersion(os.getpid(), number, 7.0)
        with pytest.raises(AlreadyRunning, match="another version"):
            acquire(config, host="127.0.0.1", port=3000)


@pytest.mark.parametrize(
    "change", [{"token": 1}, {"control_port": "1"}, {"control_port": 65536}, {"more": 1}, {"drain_timeout": None}]
)
def test_a_locked_file_of_this_format_with_other_fields_is_not_believed(config, change, monkeypatch):
    monkeypatch.setattr(module, "READ_PATIENCE", 0.1)
    hold = acquire(config, host="127.0.0.1", port=3000)
    pid_file(config).write_text(json.dumps({**json.loads(pid_file(config).read_text()), **change}))
    assert read_instance(pid_file(config)) == Locked(pid_file(config))
    hold.release()


def test_looking_does_not_disturb_a_start(config, holder):
    with pid_file(config).open("w") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        child = holder()
        time.sleep(0.1)
        fcntl.flock(reader, fcntl.LOCK_UN)
        assert child.stdout.readline() == "won\n"


def test_the_file_of_a_successor_is_not_removed(config):
    first = acquire(config, host="127.0.0.1", port=3000)
    pid_file(config).unlink()
    second = acquire(config, host="127.0.0.1", port=3001)
    first.release()
    assert read_instance(pid_file(config)) == second.instance
    second.release()


def test_a_symbolic_link_is_not_followed(config, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("keep")
    pid_file(config).symlink_to(precious)
    with pytest.raises(GatewayError, match="symbolic link"):
        acquire(config, host="127.0.0.1", port=3000)
    assert precious.read_text() == "keep"


def test_a_folder_that_is_missing_is_a_plain_message(tmp_path):
    with pytest.raises(GatewayError, match=r"cannot use the pid file .*: No such file"):
        acquire(tmp_path / "gone" / "x.toml", host="127.0.0.1", port=3000)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:3000"),
        ("0.0.0.0", "http://127.0.0.1:3000"),
        ("::", "http://[::1]:3000"),
        ("::1", "http://[::1]:3000"),
        ("gateway.local", "http://gateway.local:3000"),
    ],
)
def test_address_is_one_that_can_be_connected_to(host, address):
    assert Instance(1, host, 3000, "t", 0.0).address == address


def test_a_file_that_its_owner_removes_between_opening_and_locking_is_not_taken(config, monkeypatch):
    """Else two processes would hold locks on two files of one name."""
    real = module.open_file
    opened = []

    def open_then_lose(path, flags):
        fd = real(path, flags)
        if not opened:
            path.unlink()
        opened.append(fd)
        return fd

    monkeypatch.setattr(module, "open_file", open_then_lose)
    hold = acquire(config, host="127.0.0.1", port=3000)
    assert len(opened) == 2
    assert read_instance(pid_file(config)) == hold.instance
    hold.release()


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_start_and_status_say_the_same_of_a_pid_file_that_cannot_be_used(config, kind):
    if kind == "link":
        pid_file(config).symlink_to(config)
    else:
        pid_file(config).mkdir()
    said = []
    for use in (lambda: acquire(config, host="127.0.0.1", port=3000), lambda: read_instance(pid_file(config))):
        with pytest.raises(GatewayError) as caught:
            use()
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_that_another_user_made_gets_no_token(config):
    path = pid_file(config)
    path.touch(0o666)
    os.chown(path, 1234, 1234)
    with pytest.raises(GatewayError, match="belongs to another user; remove it"):
        acquire(config, host="127.0.0.1", port=3000)
    assert path.read_bytes() == b""
    assert read_instance(path) is None, "a reader may be another user than the gateway"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_gateway_of_another_user_is_not_believed_in_a_shared_folder(config):
    path = pid_file(config)
    hold = acquire(config, host="127.0.0.1", port=3000)
    try:
        os.chown(path, 1234, 1234)
        with pytest.raises(GatewayError, match="belongs to another user; remove it"):
            read_instance(path)
        os.chown(path.parent, 1234, 1234)
        assert isinstance(read_instance(path), Instance), "the folder is that user's own"
    finally:
        hold.release()


def test_a_gateway_with_another_state_folder_is_running_too(config, tmp_path, monkeypatch):
    """The rights of the user, or of the folder, may have changed since it was started."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    folder = state_folder(config)
    folder.mkdir(parents=True)
    hold = acquire(config, host="127.0.0.1", port=3000, folder=folder)
    try:
        assert hold.path == folder / "mcp-proxy.pid"
        assert locate(config) == config
        with pytest.raises(AlreadyRunning):
            acquire(config, host="127.0.0.1", port=3001, folder=config.parent)
        config.unlink()
        assert locate(config) == config, "a deleted file counts while its gateway has a pid file"
    finally:
        hold.release()


def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(config, tmp_path):
    with pytest.raises(GatewayError, match="--state-dir DIR, or state_dir"):
        acquire(config, host="127.0.0.1", port=3000, folder=tmp_path / "gone")


def test_two_files_with_one_state_folder_are_told_apart(config, tmp_path, monkeypatch):
    """The variable that names the folder may be set for a whole container."""
    other = tmp_path / "other" / config.name
    other.parent.mkdir()
    other.touch()
    monkeypatch.setenv("RADIUM_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    hold = acquire(config, host="127.0.0.1", port=3000, folder=tmp_path / "state")
    try:
        with pytest.raises(AlreadyRunning, match=f"the gateway of {config} .* has the same state folder"):
            acquire(other, host="127.0.0.1", port=3001, folder=tmp_path / "state")
        for ask in (instance_of, holder_of):
            with pytest.raises(Failed, match=f"the gateway of {config} .* has the same state folder"):
                ask(other)
        assert holder_of(config) == (hold.path, hold.instance)
    finally:
        hold.release()


@pytest.mark.parametrize("shown", [True, False])
def test_a_pid_of_another_container_is_not_believed(config, monkeypatch, shown):
    """The folder may be shared; here the pid belongs to another process, which would be signalled."""
    hold = acquire(config, host="127.0.0.1", port=3000)
    try:
        monkeypatch.setattr(module, "namespace", lambda: "pid:[1]")
        if not shown:
            monkeypatch.setattr(module, "holders_of", lambda inode: set())
        found = read_instance(pid_file(config))
        assert found == Locked(pid_file(config), elsewhere=True)
        assert "in another one" in str(found)
        with pytest.raises(AlreadyRunning, match="outside of this container"):
            acquire(config, host="127.0.0.1", port=3000)
    finally:
        hold.release()
