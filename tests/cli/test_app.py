import re
import subprocess
import sys

import pytest

from gateway_core.cli import app

COMMANDS = ["init", "import", "start", "stop", "status", "check", "tools", "call", "plugins", "demo"]
HEAVY = ["mcp", "mcp_types", "aiohttp", "asyncio", "loguru", "pydantic", "uvloop", "rich"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(rad, command):
    found = rad(command, "--help")
    assert found.returncode == 0
    assert f"Example: rad mcp proxy {command}" in found.stdout


def test_the_overview_lists_every_command_and_the_exit_codes(rad):
    found = rad("--help")
    for command in COMMANDS:
        assert re.search(rf"^\W*{command}\s", found.stdout, re.MULTILINE)
    assert "0 done, 1 failed, 2 wrong usage or configuration, 3 not running" in " ".join(found.stdout.split())


@pytest.mark.parametrize("command", ["status", "stop"])
@pytest.mark.parametrize("state", ["running", "gone"])
def test_status_and_stop_load_nothing_heavy(command, state, project, environment, rad):
    if state == "running":
        assert rad("start", "--detach").returncode == 0
    code = (
        f"import sys; sys.argv = ['rad', 'mcp', 'proxy', '{command}', '--config', '.radium/mcp-proxy.toml']\n"
        "from gateway_core.cli import main\n"
        "code = main()\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    if state == "running" and command == "status":
        rad("stop")
    assert found.returncode == (0 if state == "running" else 3)
    assert "heavy: []" in found.stderr


def test_version(environment):
    found = subprocess.run(
        [sys.executable, "-m", "gateway_core.cli", "--version"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert re.fullmatch(r"rad \d+\.\d+\.\d+\n", found.stdout)


def test_debug_shows_the_traceback_of_an_unexpected_error(project, environment):
    code = (
        "import sys; from gateway_core.cli import main, status\n"
        "status.instance = lambda config: 1 / 0\n"
        "sys.argv = ['rad', *sys.argv[1:], 'mcp', 'proxy', 'status']; sys.exit(main())"
    )
    for options, shown in (([], False), (["--debug"], True)):
        found = subprocess.run(
            [sys.executable, "-c", code, *options],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert found.returncode == 1
        assert "unexpected ZeroDivisionError" in found.stderr
        assert ("Traceback" in found.stderr) is shown


def test_a_reader_that_leaves_early_is_no_error(project, environment):
    command = f"'{sys.executable}' -m gateway_core.cli mcp proxy plugins --json | true"
    found = subprocess.run(
        command, shell=True, cwd=project, env=environment, capture_output=True, text=True, timeout=50, check=True
    )
    assert "Traceback" not in found.stderr
    assert "BrokenPipe" not in found.stderr


def test_a_terminal_that_is_not_utf8_gets_escapes(project, environment):
    (project / ".radium" / "mcp-proxy.toml").write_text('[mcp.proxy]\n"größe" = 1\n')
    found = subprocess.run(
        [sys.executable, "-m", "gateway_core.cli", "mcp", "proxy", "check"],
        cwd=project,
        env={**environment, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert found.returncode == 2
    assert b"unexpected" not in found.stderr


@pytest.mark.parametrize(("raised", "code", "said"), [(None, 0, ""), (3, 3, ""), ("enough", 1, "error: enough\n")])
def test_whatever_leaves_by_itself_leaves_an_exit_code(monkeypatch, capsys, raised, code, said):
    def leave(**_: object) -> None:
        raise SystemExit(raised)

    monkeypatch.setattr(app, "app", leave)
    assert app.run() == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start", "--no-such-option"], "error: no such option: --no-such-option"),
        (["call"], "error: missing argument 'name'"),
        (["status", "extra"], "error: got unexpected extra argument"),
        (["start", "--config"], "error: option '--config' requires an argument"),
        (["no-such-command"], "error: no such command 'no-such-command'"),
    ],
)
def test_wrong_usage_is_an_error_like_all_others(rad, arguments, said):
    found = rad(*arguments)
    assert found.returncode == 2
    assert found.stdout == ""
    first, hint = found.stderr.splitlines()
    assert first.startswith(said)
    assert hint in (f"  for help: rad mcp proxy {arguments[0]} --help", "  for help: rad mcp proxy --help")
