import os
from pathlib import Path

import pytest

from gateway_core.cli.instance import acquire
from gateway_core.cli.locate import CONFIG_NAME, FOLDER, UsageError, locate


def test_the_nearest_file_upwards_is_found(tmp_path, monkeypatch):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / ".radium").mkdir()
    outer = tmp_path / ".radium" / "mcp-proxy.toml"
    outer.touch()
    monkeypatch.chdir(below)
    assert locate(None) == outer
    (tmp_path / "a" / ".radium").mkdir()
    inner = tmp_path / "a" / ".radium" / "mcp-proxy.toml"
    inner.touch()
    assert locate(None) == inner


@pytest.mark.parametrize("kind", ["writable", "another user's"])
def test_the_search_ends_below_a_folder_in_which_others_may_write(tmp_path, monkeypatch, kind):
    shared, own = tmp_path / "shared", tmp_path / "shared" / "own" / "deep"
    own.mkdir(parents=True)
    (shared / ".radium").mkdir()
    (shared / ".radium" / "mcp-proxy.toml").touch()
    monkeypatch.chdir(own)
    assert locate(None) == shared / ".radium" / "mcp-proxy.toml"
    if kind == "writable":
        shared.chmod(0o1777)
    else:
        real = Path.stat
        fields = list(shared.stat()[:10])
        fields[4] = 12345
        foreign = os.stat_result(fields)
        monkeypatch.setattr(Path, "stat", lambda path, **options: foreign if path == shared else real(path, **options))
    with pytest.raises(UsageError, match=f"the folders above it below {shared}, where other users may write"):
        locate(None)
    monkeypatch.chdir(shared)
    assert locate(None) == shared / ".radium" / "mcp-proxy.toml", "the working directory itself counts"
    (shared / "own" / ".radium").mkdir()
    (shared / "own" / ".radium" / "mcp-proxy.toml").touch()
    monkeypatch.chdir(own)
    assert locate(None) == shared / "own" / ".radium" / "mcp-proxy.toml"


def test_the_name_is_the_one_that_the_configuration_uses():
    from gateway_core.config import RELATIVE_PATH

    assert str(RELATIVE_PATH) == f"{FOLDER}/{CONFIG_NAME}"


def test_a_running_gateway_is_found_after_its_file_was_deleted(tmp_path, monkeypatch):
    (tmp_path / ".radium").mkdir()
    config = tmp_path / ".radium" / "mcp-proxy.toml"
    hold = acquire(config, host="127.0.0.1", port=3000)
    monkeypatch.chdir(tmp_path)
    assert locate(None) == config
    assert locate(config) == config
    hold.release()


def test_a_missing_file_is_wrong_usage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="rad mcp proxy init"):
        locate(None)
    with pytest.raises(UsageError, match="no such file"):
        locate(tmp_path / "x.toml")
    with pytest.raises(UsageError, match="is a folder"):
        locate(tmp_path)


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path / "pipe", "named pipe"), (Path(os.devnull), "device")):
        with pytest.raises(UsageError, match=f"{path}: is a {what}, not a file"):
            locate(path)
