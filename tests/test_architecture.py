"""The layout that everybody relies on: sizes, import directions, distributions, and the commands that are promised."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
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
CORE = ROOT / "gateway_core"
TESTS = ROOT / "tests"
SUITES = {
    "acceptance": "the main job, with processes of the gateway and real agents",
    "conformance": "the clauses of the specification",
    "payloads": "payloads of many kinds through every pair of transports",
    "test_architecture.py": "the layout",
    "test_benchmarks.py": "benchmarks/",
    "test_docs.py": "the pages",
    "test_third_party_plugin.py": "a plugin that is built and installed as its users would",
    "cli/test_serving.py": "the commands together, with a server",
    "downstream/test_sdk_clients.py": "official clients",
    "rounds/test_odd_servers.py": "questions that no SDK would ask, from the server to the agent",
    "upstream/auth/test_scopes.py": "scopes, from the challenge to the token",
    "upstream/test_inline_calls.py": "inline calls, from the pipeline to the wire",
    "upstream/test_inline_transports.py": "the same on every transport",
}
"""Folders and files of tests that belong to no single module, and what they test."""
TESTED_IN = {
    "catalog/test_catalog.py": ("catalog/assemble.py",),
    "catalog/test_lists.py": ("catalog/entry.py", "upstream/hints.py"),
    "catalog/test_owners.py": ("catalog/changes.py",),
    "catalog/test_publish.py": ("catalog/identity.py", "catalog/naming.py", "upstream/inventory.py"),
    "chain/test_run.py": ("chain/failures.py", "chain/hooks.py", "chain/verdicts.py"),
    "cli/test_app.py": ("cli/status.py", "cli/views.py"),
    "cli/test_client.py": ("cli/running.py",),
    "cli/test_serving.py": ("cli/settings.py",),
    "cli/test_start.py": ("cli/detach.py", "cli/lifetime.py", "cli/serve.py", "cli/stop.py", "gateway.py"),
    "config/test_models.py": ("config/expand.py", "config/fields.py", "config/report.py", "config/sections.py"),
    "cli/test_init.py": ("config/template.py",),
    "conformance/test_clauses_tasks.py": ("catalog/tasks.py",),
    "control/test_app.py": ("control/report.py",),
    "demo/test_tour.py": (
        *("demo/http_server.py", "demo/processes.py", "demo/stage.py", "demo/stdio_server.py", "demo/steps.py"),
    ),
    "rounds/test_rounds.py": ("rounds/relay.py", "rounds/states.py"),
    "test_hookspecs.py": ("types/calls.py", "types/conflicts.py", "types/upstreams.py"),
    "test_pipeline.py": ("bugs.py", "call_state.py", "params.py"),
    "test_watch.py": ("upstream/liveness.py", "upstream/upstream.py"),
    "upstream/auth/test_discovery.py": ("upstream/auth/documents.py",),
    "upstream/auth/test_tokens.py": ("upstream/auth/endpoint.py",),
    "upstream/http1/test_wire.py": (
        *("headers.py", "upstream/http1/dial.py", "upstream/http1/heads.py"),
        *("upstream/http1/response.py", "upstream/http1/stream_parser.py"),
    ),
    "upstream/notifications/test_watches.py": (
        *("upstream/notifications/announcements.py", "upstream/notifications/logs.py"),
        "upstream/notifications/subscription.py",
    ),
    "upstream/test_duplex.py": ("upstream/base.py", "upstream/incoming.py", "upstream/pending.py"),
    "upstream/test_era.py": ("upstream/handshakes.py", "upstream/transports.py"),
    "upstream/test_inline_calls.py": ("plans.py", "upstream/requests.py"),
    "upstream/test_offer.py": ("upstream/pool.py", "upstream/settling.py"),
    "upstream/test_sessions.py": ("upstream/apart.py", "upstream/shared.py"),
}
"""Modules that are seen only through a neighbour, by the file that tests both."""
WITHOUT_TESTS = {
    "errors.py": "codes and classes",
    "words.py": "constants",
    "cli/__main__.py": "one line",
    "cli/exit_codes.py": "constants",
    "config/keys.py": "constants",
}
PENDING = {
    "downstream": "the server of the data plane is being replaced",
    "nesting.py": "the decoders are being joined",
    "surrogates.py": "the decoders are being joined",
    "usual.py": "the decoders are being joined",
}
"""Folders and modules whose tests move with a change that is under way."""
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


def _listed(path: str, table: Iterable[str]) -> bool:
    """Whether a path, or a folder that it is in, stands in a table."""
    return any(path == entry or path.startswith(entry + "/") for entry in table)


def _test_of(source: str) -> str:
    """The path that mirrors the path of a source."""
    folder, _, name = source.rpartition("/")
    return f"{folder}/test_{name.lstrip('_')}".lstrip("/")


def test_the_tests_mirror_the_sources() -> None:
    sources = {path.relative_to(CORE).as_posix() for path in CORE.rglob("*.py") if path.name != "__init__.py"}
    tests = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}
    elsewhere = {source for group in TESTED_IN.values() for source in group}
    named = elsewhere | WITHOUT_TESTS.keys()
    mirrored = {source for source in sources if _test_of(source) in tests}
    without = sources - mirrored - named
    assert sorted(it for it in without if not _listed(it, PENDING)) == [], "these have no tests"
    alone = tests - {_test_of(source) for source in sources}
    assert sorted(it for it in alone if not _listed(it, SUITES)) == [], "these mirror no source"
    assert sorted(named & mirrored | named - sources) == [], "these exceptions are out of date"
    assert sorted(TESTED_IN.keys() - tests) == [], "these exceptions name no tests"


def test_no_test_bounds_wall_time_from_above() -> None:
    found = []
    for path in [*TESTS.rglob("*.py"), *ROOT.glob("plugins/*/tests/*.py")]:
        relative = path.relative_to(ROOT).as_posix()
        if _listed(relative, [f"tests/{name}" for name in PENDING]):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert) and _bounds_a_clock(node.test):
                found.append(f"{relative}:{node.lineno}")
    assert found == []


def _bounds_a_clock(test: ast.expr) -> bool:
    """Whether the difference of two times of a clock is compared with a number that it must not reach."""
    if not isinstance(test, ast.Compare):
        return False
    terms = [test.left, *test.comparators]
    for left, operator, right in zip(terms, test.ops, terms[1:], strict=False):
        small, large = (left, right) if isinstance(operator, ast.Lt | ast.LtE) else (right, left)
        clock = isinstance(small, ast.BinOp) and re.search(r"\b(monotonic|perf_counter|time)\(\)", ast.unparse(small))
        if clock and isinstance(large, ast.Constant) and isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            return True
    return False


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
