"""What a command of a plugin learns about the configuration file, and what it tells the user."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway_core import CommandContext, ConfigPath, PluginConfig
from gateway_core.cli import hints
from gateway_core.cli.locate import UsageError
from gateway_core.config import DEFAULT_PLUGINS, loads
from gateway_core.errors import ConfigError, PluginError

HEAD = "[mcp.proxy]\nenable = true\n"
WATCH = '[[mcp.proxy.plugins]]\nname = "watch"\n'


class Settings(PluginConfig):
    book: ConfigPath = Path("watch.book")
    hour: int = 8


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "mcp-proxy.toml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


def context(path: Path) -> CommandContext[Settings]:
    return CommandContext.of("watch", Settings, path)


def test_settings_are_those_of_the_file_and_paths_start_at_its_folder(write: Any, tmp_path: Path) -> None:
    found = context(write(f"{HEAD}{WATCH}hour = 9\n"))
    assert (found.settings.hour, found.settings.book) == (9, tmp_path / "watch.book")
    assert (found.enabled, found.folder) == (True, tmp_path)


def test_without_a_file_the_error_is_that_of_every_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        context(tmp_path / "mcp-proxy.toml")


def test_mistakes_elsewhere_and_missing_variables_of_others_do_not_matter(write: Any) -> None:
    upstream = '[[mcp.proxy.upstreams]]\nname = "a"\ntransport = "http"\nurl = "${NOT_SET_ANYWHERE}"\nwrong = 1\n'
    assert context(write(f"{HEAD}prot = 3\n{upstream}{WATCH}hour = 9\n")).settings.hour == 9


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (f"{HEAD}{WATCH}hour = 'x'\n", PluginError, r"mcp-proxy.toml:5: mcp.proxy.plugins\[0\] \(watch\): hour"),
        (f"{HEAD}{WATCH}hour = '${{NOT_SET_ANYWHERE}}'\n", ConfigError, "NOT_SET_ANYWHERE is not set"),
        (f"{HEAD}{WATCH}book = ''\n", PluginError, "must not be empty"),
        ("[mcp.proxy\n", ConfigError, "is not valid TOML"),
    ],
)
def test_wrong_settings_and_unreadable_files_are_errors(write: Any, text: str, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        context(write(text))


def test_a_file_that_others_may_write_is_refused(write: Any) -> None:
    path = write(f"{HEAD}{WATCH}")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="others may write"):
        context(path)


@pytest.mark.parametrize("others", ["", '[[mcp.proxy.plugins]]\nname = "security_redact"\n'])
def test_the_lines_that_it_proposes_enable_the_plugin_and_keep_the_others(write: Any, others: str) -> None:
    path = write(HEAD + others)
    found = context(path)
    assert not found.enabled
    _, _, lines = found.to_enable.partition("\n\n")
    names = [plugin.name for plugin in loads(f"{HEAD}{others}{lines}", path).proxy.plugins]
    assert sorted(names) == sorted(["watch", *(["security_redact"] if others else DEFAULT_PLUGINS)])
    assert context(write(f"{HEAD}{others}{lines}")).enabled


def test_an_empty_list_is_said_to_be_empty(write: Any) -> None:
    assert "an empty list of plugins" in context(write(f"{HEAD}plugins = []\n")).to_enable


def test_one_that_is_switched_off_is_named_with_its_line_and_its_settings_count(write: Any) -> None:
    found = context(write(f"{HEAD}{WATCH}enabled = false\nhour = 9\n"))
    assert not found.enabled
    assert "mcp-proxy.toml:3: watch is listed with enabled = false" in found.to_enable
    assert found.settings.hour == 9
    assert context(write(f"{HEAD}{WATCH}enabled = false\n{WATCH}hour = 7\n")).settings.hour == 7


def test_commands_in_messages_repeat_the_option_after_all_words(write: Any) -> None:
    path = write(HEAD)
    found = context(path)
    assert found.command("watch", "begin") == "rad mcp proxy watch begin"
    with hints.repeating({"config": path}):
        assert found.command("watch", "begin") == f"rad mcp proxy watch begin --config {path}"


def test_output_is_escaped_and_results_are_apart_from_remarks(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = context(write(HEAD))
    found.put("a\x1b[2Jb")
    found.say("first\nsecond\r")
    found.put_table(("name",), [("x\x1b",)], whole={"name"})
    found.put_json({"é": 1})
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out
    assert shown.err.splitlines()[0] == "first"
    assert "\r" not in shown.err
    assert json.loads(shown.out[shown.out.index("{") :]) == {"é": 1}
