import pytest

from gateway_core.cli.exit_codes import ExitCode
from gateway_core.cli.instance import AlreadyRunning, NotRunning
from gateway_core.cli.locate import UsageError
from gateway_core.cli.report import Failed, describe, guarded
from gateway_core.errors import ConfigError, GatewayError, PluginError


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GatewayError("x"), 1),
        (Failed("x"), 1),
        (AlreadyRunning("x"), 1),
        (FileNotFoundError(2, "No such file", "x"), 1),
        (RuntimeError("x"), 1),
        (ConfigError(["f:1: x"]), 2),
        (PluginError("x"), 2),
        (UsageError("x"), 2),
        (NotRunning("x"), 3),
    ],
)
def test_exit_codes(error, code, capsys, monkeypatch):
    monkeypatch.delenv("RADIUM_DEBUG", raising=False)
    assert guarded(lambda: _raise(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_a_command_that_returns_is_done():
    assert guarded(lambda: None) is ExitCode.DONE


def test_every_problem_of_a_configuration_is_shown():
    text, _ = describe(ConfigError(["f:1: one", "f:2: two\x1b[2J"]))
    assert text == "2 problems in the configuration:\n  f:1: one\n  f:2: two\\x1b[2J"


def test_a_bug_is_one_line_and_a_request_to_report_it(capsys, monkeypatch):
    monkeypatch.delenv("RADIUM_DEBUG", raising=False)
    guarded(lambda: _raise(KeyError("a\nb")))
    err = capsys.readouterr().err
    assert "unexpected KeyError: 'a\\nb'" in err
    assert "please report" in err


def test_debugging_shows_where_it_happened(capsys, monkeypatch):
    monkeypatch.setenv("RADIUM_DEBUG", "1")
    guarded(lambda: _raise(KeyError("x")))
    assert "Traceback" in capsys.readouterr().err


def test_an_error_of_the_system_names_the_file():
    assert describe(PermissionError(13, "denied", "/etc/x"))[0] == "/etc/x: Permission denied"
    assert describe(OSError("odd"))[0] == "odd"


def test_ctrl_c_is_no_bug(capsys):
    assert guarded(lambda: _raise(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "error: interrupted\n"
