"""Commands that installed distributions add to `rad mcp proxy`."""

import importlib
import itertools
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway_core.cli.app import app
from gateway_core.cli.plugin_commands import mounting
from gateway_core.errors import PluginError

_numbers = itertools.count()
GOOD = """
import typer
from gateway_core import CommandGroup

app = CommandGroup("Watch the night.")

@app.command()
def begin(hour: int, loud: bool = False) -> None:
    "Begin the watch."
    typer.echo(f"began at {hour + 1}")

@app.command()
def end() -> None:
    "End it."
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`install(name, source)` puts a distribution with the command `name` on the path; returns its module's name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(name: str, source: str = GOOD, version: str = "1.2") -> str:
        module = f"commands_under_test_{next(_numbers)}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[gateway_core.commands]\n{name} = {module}:app\n")
        importlib.invalidate_caches()
        return module

    return add


def plugin_of_the_page(folder: Path) -> str:
    """Write the package of `docs/writing-a-plugin.md` into a folder; returns the source of its commands."""
    page = (Path(__file__).parents[3] / "docs" / "writing-a-plugin.md").read_text()
    found = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for block in found:
        name = re.match(r"# (gateway_night_watch/\w+\.py)\n", block)
        if name is not None:
            (folder / name[1]).parent.mkdir(exist_ok=True)
            (folder / name[1]).write_text(block)
    (source,) = [block for block in found if "CommandGroup(" in block]
    return str(source)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["mcp", "proxy", *arguments])


def test_a_command_of_a_plugin_runs_with_arguments_of_their_types(install: Any) -> None:
    install("watch")
    assert run("watch", "begin", "7").output == "began at 8\n"
    assert run("watch", "begin", "seven").exit_code == 2


def test_an_application_whose_only_command_has_its_name_is_that_command(install: Any) -> None:
    source = GOOD.replace("@app.command()", '@app.command("begin")', 1).partition("@app.command()")[0]
    install("begin", source)
    assert run("begin", "3").stdout == "began at 4\n"
    assert "Begin the watch." in run("--help").stdout
    install("watch", source)
    assert run("watch", "begin", "3").stdout == "began at 4\n"


def test_the_help_lists_it_after_the_commands_of_the_core(install: Any) -> None:
    install("watch")
    shown = run("--help").output
    assert shown.index("demo") < shown.index("Watch the night.")
    assert "Begin the watch." in run("watch", "--help").output


def test_a_plugin_cannot_replace_a_command_of_the_core(install: Any) -> None:
    module = install("stop", GOOD)
    assert "Stop the running gateway" in run("stop", "--help").output
    assert "Watch the night." not in run("--help").output
    assert module not in sys.modules


def test_only_the_named_command_is_imported(install: Any) -> None:
    watch, other = install("watch"), install("other")
    assert run("watch", "begin", "1").exit_code == 0
    assert watch in sys.modules
    assert other not in sys.modules


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0", "ZeroDivisionError; reinstall it"),
        ("raise SystemExit", "SystemExit; reinstall it"),
        ("", "AttributeError; reinstall it"),
        ("app = print", "is not a typer application with commands"),
        ("import typer; app = typer.Typer()", "is not a typer application with commands"),
    ],
)
def test_one_that_cannot_be_used_says_why_and_costs_no_other(install: Any, source: str, reason: str) -> None:
    module = install("watch", source)
    result = run("watch", "begin", "--loud")
    assert isinstance(result.exception, PluginError)
    assert reason in str(result.exception)
    assert f"{module} 1.2" in str(result.exception)
    shown = run("--help")
    assert shown.exit_code == 0
    assert "Cannot be used" in shown.output
    assert "demo" in shown.output


def test_two_distributions_with_one_command_are_both_named(install: Any) -> None:
    first, second = install("watch"), install("watch", version="3")
    result = run("watch", "begin", "7")
    named = " and ".join(sorted([f"{first} 1.2", f"{second} 3"]))
    assert f"{named}; uninstall" in str(result.exception)


def test_a_misspelt_command_of_a_plugin_is_proposed(install: Any) -> None:
    install("watch")
    assert "Did you mean 'watch'?" in run("wach").output


def test_only_the_named_command_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    of = mounting._made
    monkeypatch.setattr(mounting, "_made", lambda name, app: made.append(name) or of(name, app))
    assert run("status", "--help").exit_code == 0
    assert made == ["status"]


def test_the_help_names_commands_and_groups(install: Any) -> None:
    install("watch")
    shown = run("--help").output
    for name in ("start", "config", "watch"):
        assert re.search(rf"^\W*{name}\s", shown, re.MULTILINE)


def test_a_command_of_the_core_reads_no_metadata_of_distributions() -> None:
    code = (
        "import sys; from gateway_core.cli import main\n"
        "sys.argv = ['rad', 'mcp', 'proxy', 'status', '--config', 'none.toml']; main()\n"
        "print('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50)
    assert done.stdout == "False\n"


def test_the_commands_of_the_page_for_authors_work(install: Any, tmp_path: Path) -> None:
    install("night", plugin_of_the_page(tmp_path))
    path = tmp_path / "mcp-proxy.toml"
    path.write_text('[mcp.proxy]\nenable = true\n[[mcp.proxy.plugins]]\nname = "night_watch"\nopens = 7\n')
    path.chmod(0o600)
    given = ("--config", str(path))
    assert '"opens": 7' in run("night", "show", "--json", *given).output
    assert "opens   closes" in run("night", "show", "12", *given).output
    closed = run("night", "show", "3", *given)
    assert str(closed.exception) == f"closed; to see the hours: rad mcp proxy night show --config {path}"
