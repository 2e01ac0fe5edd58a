"""What people read about the configuration is true: the reference page, the examples, the file that `init` writes."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gateway_core.config import DEFAULT_PLUGINS, default_file, load, loads
from gateway_core.config.docs import BUNDLED_PLUGINS, COMMAND, COMPLETE, render
from gateway_core.config.models import McpTable
from gateway_core.config.report import section_in, sections
from tests.complete_kit import ENV, write_files

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
QUICK_START = """\
[mcp.proxy]
enable = true
port = 3000
transport = "http"
[[mcp.proxy.upstreams]]
name = "server1"
transport = "http"
url = "http://localhost:8080/mcp"
priority = 1
health_check_interval = 30
[[mcp.proxy.upstreams]]
name = "server2"
transport = "http"
url = "http://localhost:8081/mcp"
priority = 2
health_check_interval = 30
"""


def test_the_quick_start_file_of_existing_users_loads() -> None:
    proxy = loads(QUICK_START, Path("mcp-proxy.toml"), {}).proxy
    assert (proxy.enable, proxy.port, proxy.transport) == (True, 3000, "http")
    assert [
        (item.name, item.transport, item.url, item.priority, item.health_check_interval) for item in proxy.upstreams
    ] == [
        ("server1", "http", "http://localhost:8080/mcp", 1, 30),
        ("server2", "http", "http://localhost:8081/mcp", 2, 30),
    ]
    assert [entry.name for entry in proxy.plugins] == list(DEFAULT_PLUGINS)


def test_the_quick_start_example_is_that_file() -> None:
    assert tomllib.loads((ROOT / "examples" / "quick-start.toml").read_text()) == tomllib.loads(QUICK_START)


def test_there_are_examples() -> None:
    names = {path.stem for path in EXAMPLES}
    assert names >= {"quick-start", "failover", "load-balancing", "stdio", "oauth", "custom-plugin"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads_and_may_be_started(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name  # a checkout may have other permissions
    shutil.copyfile(path, copy)
    proxy = load(copy, ENV).proxy
    assert proxy.enable
    assert proxy.upstreams


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_name_bundled_plugins_only_but_for_the_custom_one(path: Path) -> None:
    names = {entry.name for entry in loads(path.read_text(), path, ENV).proxy.plugins}
    assert names - set(BUNDLED_PLUGINS) == ({"night_watch"} if path.stem == "custom-plugin" else set())


def test_the_reference_page_is_what_the_models_say() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == render(), f"docs/configuration.md is out of date; run: {COMMAND}"


def test_the_command_of_the_reference_page_writes_it(tmp_path: Path) -> None:
    output = tmp_path / "page.md"
    subprocess.run([sys.executable, *COMMAND.split()[1:], str(output)], check=True, cwd=tmp_path)
    assert output.read_text(encoding="utf-8") == render()


def test_every_key_is_described_and_in_the_reference_page() -> None:
    page = render()
    for header, model in sections():
        for key in model.file_keys():
            field = model.model_fields[key]
            assert field.description, f"{header} {key}"
            if model is not McpTable and section_in(field.annotation) is None:
                assert f"\n| `{key}` | " in page.split(f"### `{header}`\n")[1].split("\n### ")[0]


def test_the_complete_example_loads_and_has_every_key(tmp_path: Path) -> None:
    write_files(tmp_path)
    loads(COMPLETE, tmp_path / "mcp-proxy.toml", ENV)
    written = set(re.findall(r"^(\w+) = ", COMPLETE, re.MULTILINE))
    tables = set(re.findall(r"^\[.*\]$", COMPLETE, re.MULTILINE))
    for header, model in sections():
        if model is McpTable:
            continue
        assert header in tables
        for key in model.file_keys():
            assert section_in(model.model_fields[key].annotation) or key in written, f"{header} {key}"


def test_bundled_plugins_are_those_of_the_plugins_folder() -> None:
    assert sorted(BUNDLED_PLUGINS) == sorted(path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml"))


# The file that `init` writes


def uncommented(text: str) -> str:
    """The template with every example taken: comment lines that are TOML lose their mark."""
    return re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)


def test_the_new_file_loads_and_may_be_started(tmp_path: Path) -> None:
    path = tmp_path / "mcp-proxy.toml"
    path.write_text(default_file(), encoding="utf-8")
    proxy = load(path, {}).proxy
    assert proxy.enable
    assert proxy.upstreams == ()
    assert [entry.name for entry in proxy.plugins] == list(DEFAULT_PLUGINS)


def test_the_new_file_states_the_defaults() -> None:
    bare = loads("[mcp.proxy]\nenable = true\n", Path("x.toml"), {}).proxy
    assert loads(default_file(), Path("x.toml"), {}).proxy.model_dump(
        exclude={"plugins": {"__all__": {"key_lines"}}}
    ) == bare.model_dump(exclude={"plugins": {"__all__": {"key_lines"}}})


def test_all_examples_of_the_new_file_load_when_they_are_taken() -> None:
    proxy = loads(uncommented(default_file()), Path("x.toml"), ENV).proxy
    assert {item.transport for item in proxy.upstreams} == {"stdio", "http", "sse"}
    assert [item.auth.grant for item in proxy.upstreams if item.auth] == ["client_credentials", "authorization_code"]
    assert [entry.name for entry in proxy.plugins] == list(DEFAULT_PLUGINS)


def test_swapping_a_plugin_of_the_new_file_is_a_change_of_its_name() -> None:
    text = uncommented(default_file()).replace('"routing_priority"', '"routing_roundrobin"')
    assert loads(text, Path("x.toml"), ENV).proxy.plugins[0].name == "routing_roundrobin"
