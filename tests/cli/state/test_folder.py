"""Where a gateway keeps its files, and where commands look for them."""

import os
from pathlib import Path

import pytest

from gateway_core.cli.state.folder import VARIABLE, prepare, search_folders, state_folder
from gateway_core.errors import GatewayError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file in a folder that can be written, with its own user folder."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    path = tmp_path / "etc" / "mcp-proxy.toml"
    path.parent.mkdir()
    path.write_text("[mcp.proxy]\nenable = true\n")
    return path


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder can be written; root may write everywhere, so modes would not show it."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)


def test_files_are_beside_a_configuration_that_can_be_written(config: Path) -> None:
    assert state_folder(config) == config.parent


@pytest.mark.usefixtures("read_only")
def test_a_read_only_folder_leads_to_the_users_state_folder(config: Path, tmp_path: Path) -> None:
    folder = state_folder(config)
    assert folder.parent == tmp_path / "xdg" / "radium"
    assert folder.name.startswith("mcp-proxy-")
    assert state_folder(config.with_name("other.toml")) != folder
    assert not folder.exists(), "asking creates nothing"


@pytest.mark.usefixtures("read_only")
@pytest.mark.parametrize("xdg", ["", "relative/path"])
def test_without_a_usable_xdg_state_home_it_is_local_state(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xdg: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", xdg)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert state_folder(config).parent == tmp_path / "home" / ".local" / "state" / "radium"


def test_commands_look_into_both_folders_whatever_they_may_write(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = search_folders(config)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert search_folders(config) == before == (config.parent, state_folder(config))


@pytest.mark.usefixtures("read_only")
def test_the_users_folder_does_not_follow_a_mounted_configmap_to_its_next_version(config: Path) -> None:
    folders = set()
    for version in ("first", "second"):
        real = config.parent / f"..{version}"
        real.mkdir()
        (real / config.name).write_text("[mcp.proxy]\n")
        config.unlink()
        config.symlink_to(real / config.name)
        folders.add(state_folder(config))
    assert len(folders) == 1


@pytest.mark.usefixtures("read_only")
def test_two_spellings_of_one_folder_have_one_state_folder(config: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(config.parent)
    assert state_folder(tmp_path / "link" / config.name) == state_folder(config)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("state", "etc/state"),
        ("/srv/state", "/srv/state"),
        ("~/state", "home/state"),
        ("${STATE_BASE}/radium", "/base/radium"),
        ("${NOT_SET_HERE:-/default}", "/default"),
    ],
)
def test_the_key_names_the_folder(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STATE_BASE", "/base")
    config.write_text(f'[mcp.proxy]\nenable = true\nstate_dir = "{value}"\n')
    assert state_folder(config) == tmp_path / expected
    assert search_folders(config) == (tmp_path / expected,)


def test_the_option_comes_before_the_key(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('[mcp.proxy]\nstate_dir = "/from/the/key"\n')
    monkeypatch.setenv(VARIABLE, "/from/the/option")
    assert state_folder(config) == Path("/from/the/option")
    assert search_folders(config) == (Path("/from/the/option"),)


@pytest.mark.parametrize(
    "text", ["state_dir = ", 'state_dir = "x"', "[mcp]\nproxy = 1 # state_dir", "[mcp.proxy]\nstate_dir = 5", "\xff"]
)
def test_a_file_that_is_not_valid_names_no_folder(config: Path, text: str) -> None:
    config.write_text(text, encoding="latin-1")
    assert state_folder(config) == config.parent


def test_a_deleted_file_names_no_folder(config: Path) -> None:
    config.unlink()
    assert state_folder(config) == config.parent


def test_the_folder_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    prepare(folder)
    prepare(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_created_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GatewayError, match="--state-dir DIR, or state_dir"):
        prepare(tmp_path / "file" / "state")
