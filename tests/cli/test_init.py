import pytest

from gateway_core.cli.init import init
from gateway_core.cli.report import Failed
from gateway_core.config import load


def test_the_file_is_private_and_valid(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    init(None, force=False)
    path = tmp_path / ".radium" / "mcp-proxy.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert load(path).proxy.enable is True
    assert sorted(path.parent.iterdir()) == [path.with_name(".gitignore"), path]
    assert path.with_name(".gitignore").read_text() == "*\n"
    said = capsys.readouterr().out
    assert f"wrote {path}" in said
    assert "rad mcp proxy start" in said
    how = "log_requests = false and log_responses = false"
    assert len([line for line in said.splitlines() if how in line]) == 1
    assert len([line for line in path.read_text().splitlines() if how in line]) == 1


def test_a_file_that_exists_is_kept_without_force(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("mine")
    with pytest.raises(Failed, match="--force"):
        init(path, force=False)
    assert path.read_text() == "mine"
    init(path, force=True)
    assert load(path).proxy.enable is True
    assert path.stat().st_mode & 0o777 == 0o600


def test_path_may_be_a_folder_or_a_file(tmp_path, capsys):
    init(tmp_path, force=False)
    assert (tmp_path / ".radium" / "mcp-proxy.toml").is_file()
    init(tmp_path / "etc" / "gateway.toml", force=False)
    assert (tmp_path / "etc" / "gateway.toml").is_file()
    assert f"start --config {tmp_path / 'etc' / 'gateway.toml'}" in capsys.readouterr().out


def test_only_the_folder_of_the_gateway_is_kept_out_of_git_and_an_own_list_stays(tmp_path):
    init(tmp_path / "gateway.toml", force=False)
    assert not (tmp_path / ".gitignore").exists()
    (tmp_path / ".radium").mkdir()
    (tmp_path / ".radium" / ".gitignore").write_text("*.log\n")
    init(tmp_path, force=False)
    assert (tmp_path / ".radium" / ".gitignore").read_text() == "*.log\n"
