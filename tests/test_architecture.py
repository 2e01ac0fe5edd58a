"""The layout that everybody relies on: sizes, import directions, distributions, and the commands that are promised."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = sorted(folder for folder in (ROOT / "plugins").iterdir() if (folder / "pyproject.toml").exists())
SHIPPED = sorted(
    path
    for top in (ROOT / "gateway_core", *(next(plugin.glob("gateway_*")) for plugin in PLUGINS))
    for path in top.rglob("*.py")
)
MAX_LINES = 350
BY_NAME = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)


def project(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return table


def test_there_are_seven_plugins() -> None:
    assert [plugin.name for plugin in PLUGINS] == [
        "conflict_autoprefix",
        "conflict_priority",
        "conflict_reject",
        "routing_priority",
        "routing_roundrobin",
        "security_ratelimit",
        "security_redact",
    ]


def test_no_module_grows_past_what_is_read_in_one_sitting() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SHIPPED}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_every_module_says_what_it_is() -> None:
    silent = [str(path.relative_to(ROOT)) for path in SHIPPED if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_nothing_unfinished_is_shipped() -> None:
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SHIPPED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if unfinished.search(line)
    ]
    assert found == []


def test_imports_point_one_way() -> None:
    tool = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([str(tool), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr


def test_status_and_stop_start_fast_because_they_import_neither_the_sdk_nor_aiohttp() -> None:
    code = "import sys, gateway_core.cli; print([m for m in ('mcp', 'aiohttp') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


@BY_NAME
def test_a_plugin_has_one_name_everywhere(plugin: Path) -> None:
    table = project(plugin)
    dashed = plugin.name.replace("_", "-")
    package = f"gateway_{plugin.name}"
    assert table["name"] == f"gateway-{dashed}"
    assert list(table["entry-points"]) == ["gateway_core"]
    ((name, target),) = table["entry-points"]["gateway_core"].items()
    assert name == plugin.name
    assert target.startswith(f"{package}.")
    assert (plugin / package / "__init__.py").exists()
    (installed,) = entry_points(group="gateway_core", name=plugin.name)
    assert installed.load().__module__.startswith(package)


@BY_NAME
def test_a_plugin_folder_can_be_copied_whole(plugin: Path) -> None:
    assert (plugin / "README.md").read_text().strip()
    assert sorted((plugin / "tests").glob("test_*.py")) != []


@BY_NAME
def test_a_plugins_only_edge_to_the_core_is_a_bounded_requirement(plugin: Path) -> None:
    on_gateway = [need for need in project(plugin)["dependencies"] if need.startswith("gateway")]
    assert on_gateway == [f"gateway-core{_range()}"]


def test_all_distributions_carry_one_version() -> None:
    declared = {table["name"]: table["version"] for table in map(project, (ROOT, *PLUGINS))}
    assert len(declared) == 8
    assert len(set(declared.values())) == 1
    assert {name: version(name) for name in declared} == declared


def test_the_standard_extra_names_all_plugins_and_nothing_else() -> None:
    extra = project(ROOT)["optional-dependencies"]["standard"]
    assert sorted(extra) == sorted(f"{project(plugin)['name']}{_range()}" for plugin in PLUGINS)


def _range() -> str:
    major, minor, *_ = project(ROOT)["version"].split(".")
    return f">={major}.{minor},<{major}.{int(minor) + 1}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run", ".github/workflows/ci.yml"])
def test_every_make_target_that_is_promised_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.M))
    text = (ROOT / page).read_text()
    promised = set(re.findall(r"\bmake ([a-z0-9]+)\b", _code(text) if page.endswith(".md") else _uncommented(text)))
    if page == ".ci/run":
        assert promised == {"test", "check", "e2e", "demo", "guard", "conformance"}
    assert promised, "the page promises no target at all"
    assert promised <= targets


def _code(markdown: str) -> str:
    """The code of a Markdown text, because prose uses the word `make` too."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", markdown, re.M | re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", markdown, flags=re.M | re.S))
    return "\n".join([*blocks, *spans]) + "\n"


def _uncommented(script: str) -> str:
    return "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("#"))
