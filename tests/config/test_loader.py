"""Reading the file, and refusing those that others could have written."""

import os
from pathlib import Path

import pytest

from gateway_core.config import RELATIVE_PATH, load, loads
from gateway_core.config.loader import FILE_LIMIT
from gateway_core.config.report import sections
from gateway_core.errors import ConfigError

GOOD = b"[mcp.proxy]\nenable = true\n"


def write(folder: Path, content: bytes = GOOD) -> Path:
    path = folder / RELATIVE_PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_a_file_is_read_with_the_environment_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TEST_HOST", "127.0.0.2")
    path = write(tmp_path, GOOD + b'host = "${GATEWAY_TEST_HOST}"')
    config = load(path)
    assert (config.path, config.proxy.host) == (path, "127.0.0.2")


def test_files_named_in_it_are_looked_up_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD + b'host = "${file:host.txt}"')
    (path.parent / "host.txt").write_text("localhost\n")
    monkeypatch.chdir(tmp_path)
    assert load(RELATIVE_PATH).proxy.host == "localhost"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o664, 0o666])
def test_a_file_that_others_may_write_is_refused_with_the_command_that_fixes_it(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path)
    path.chmod(mode)
    said = refusal(path)
    assert f"others may write to it, and its commands run with your rights; run: chmod go-w {path}; where" in said
    assert "RADIUM_TRUST_CONFIG=1" in said
    assert load(path, {"RADIUM_TRUST_CONFIG": "1"}).proxy.enable
    path.chmod(mode & ~0o022)
    assert load(path).proxy.enable


@pytest.mark.parametrize(
    ("owner", "me", "refused"),
    [(1000, 1000, False), (0, 1000, False), (1001, 1000, True), (1001, 0, True), (0, 0, False)],
)
def test_another_users_file_is_refused_unless_that_user_is_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, me: int, refused: bool
) -> None:
    path = write(tmp_path)
    real = os.fstat

    def owned(descriptor: int) -> os.stat_result:
        fields = list(real(descriptor)[:10])
        fields[4] = owner
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", owned)
    monkeypatch.setattr(os, "geteuid", lambda: me)
    if refused:
        assert "belongs to another user" in refusal(path)
    else:
        assert load(path).proxy.enable


def test_a_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.toml") == f"{tmp_path}/no.toml: no such file; `rad mcp proxy init` writes one"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in refusal(tmp_path)
    assert "is larger than 1024 KiB" in refusal(write(tmp_path, b"#" * (FILE_LIMIT + 1)))


def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(tmp_path / "pipe") == f"{tmp_path}/pipe: it is no ordinary file"


def test_a_file_that_is_not_utf8_gets_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + b"# caf\xe9\n")
    assert refusal(path) == f"{path}:3: is not UTF-8 text; save the file as UTF-8"


def test_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\r\nport = 0\r\n")
    assert refusal(path).startswith(f"{path}:4: mcp.proxy.port: must be from 1 to 65535")


LEAK = "..leaked..value.."
"""Wrong for nearly every key."""


def _tables() -> list[tuple[str, str]]:
    """A header and a line for every key of the file, each of which is set to `LEAK` through a variable."""
    found = []
    for header, model in sections():
        below = header.startswith("[mcp.proxy.upstreams.")
        start = f'[[mcp.proxy.upstreams]]\nname = "a"\n{header}' if below else header
        for key in model.file_keys():
            found += [(start, f'{key} = "${{LEAK}}"'), (start, f'{key} = ["${{LEAK}}"]')]
            found += [(start, f'{key} = {{ "a" = "${{LEAK}}" }}')]
    return found


def said_of(text: str, value: str) -> str:
    """All problems of a file whose `${LEAK}` is `value`; empty if it has none."""
    try:
        loads(text, RELATIVE_PATH, {"LEAK": value})
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("header", "line"), _tables())
def test_no_error_shows_a_value_from_the_environment(header: str, line: str) -> None:
    text = f"{header}\n{line}\n"
    assert "leaked" not in said_of(text, LEAK)


@pytest.mark.parametrize("key", ["port", "timeout", "max_timeout", "drain_timeout", "separator", "host"])
def test_rules_between_keys_show_no_value_from_the_environment(key: str) -> None:
    """Beside each other, `timeout`, `max_timeout` and `separator` contradict what the upstream says."""
    text = (
        f'[mcp.proxy]\n{key} = "${{LEAK}}"\n[mcp.proxy.control]\nport = 3000\n'
        '[[mcp.proxy.upstreams]]\nname = "a.7.b"\ntransport = "http"\ntimeout = 999\n'
    )
    for value in (".7.", "0.0731", "99731", "99731.5"):
        assert value not in said_of(text, value).replace('"a.7.b"', "")


def test_options_replace_keys_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + b'port = "${NOT_SET}"\n')
    assert load(path, {}, options={"port": 4000, "host": "localhost"}).proxy.port == 4000
    with pytest.raises(ConfigError) as caught:
        load(path, {}, options={"port": 4000, "host": "http://x"})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--host"]


def test_the_log_starts_at_the_state_folder(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + b'state_dir = "s"\n[mcp.proxy.log]\nfile = "own.log"\n')
    proxy = load(path, {}, state=tmp_path / "state").proxy
    assert (proxy.log.file, proxy.state_dir) == (str(tmp_path / "state" / "own.log"), str(path.parent / "s"))
    assert load(path, {}).proxy.log.file == str(path.parent / "own.log")
