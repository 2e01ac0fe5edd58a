"""The layout that everybody relies on: sizes, import directions, distributions, and the commands that are promised."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Set
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

import gateway_core
from gateway_core import Plugin
from gateway_core.hooks.loader import settings_model
from gateway_core.hooks.places import alternatives

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
    "catalog/test_restarts.py": "names over time, from the fetched lists to the names file",
    "conformance": "the clauses of the specification",
    "dashboard": "the files that browsers load",
    "field": "servers and clients that are unusual or wrong, as people meet them",
    "faults": "the fault matrix",
    "payloads": "payloads of many kinds through every pair of transports",
    "servers": "the light server of the tests, with official clients",
    "generations/test_agents.py": "reloads as agents notice them",
    "generations/test_under_load.py": "reloads amid calls of many agents",
    "test_architecture.py": "the layout",
    "test_benchmarks.py": "benchmarks/",
    "test_docs.py": "the pages",
    "test_fuzz.py": "fuzz/",
    "test_one_way.py": "that every call passes one pipeline",
    "test_smoke.py": "that a gateway with all of it starts",
    "test_public_api.py": "what plugins may import",
    "test_third_party_plugin.py": "a plugin that is built and installed as its users would",
    "cli/test_pages.py": "pages whose blocks are copied and run",
    "cli/test_serving.py": "the commands together, with a server",
    "downstream/test_sdk_clients.py": "official clients",
    "downstream/test_security.py": "hosts, origins and tokens",
    "http1/test_oracles.py": "requests as h11 and httptools read them",
    "http1/test_tls.py": "the server over TLS, on both event loops",
    "http1/test_moving.py": "connections that move to another process",
    "pipeline/input_required/test_odd_servers.py": "questions that no SDK would ask, from the server to the agent",
    "upstream/auth/test_scopes.py": "scopes, from the challenge to the token",
    "upstream/test_memory.py": "large messages of servers against the memory budget, on every transport",
    "upstream/test_inline_calls.py": "inline calls, from the pipeline to the wire",
    "upstream/test_inline_transports.py": "the same on every transport",
    "upstream/test_trace_context.py": "trace context, from the agent's request to the wire",
}
"""Folders and files of tests that belong to no single module, and what they test."""
TESTED_IN = {
    "http1/test_connection.py": ("http1/flow.py",),
    "catalog/test_lists.py": ("catalog/entry.py", "mcp/cache_hints.py"),
    "catalog/test_owners.py": ("catalog/changes.py",),
    "catalog/profiles/test_narrowing.py": ("catalog/profiles/profile.py",),
    "catalog/test_publish.py": ("upstream/lists/fetched_lists.py",),
    "exchange/test_exchange.py": (
        *(
            "exchange/back.py",
            "exchange/naming.py",
            "exchange/no_answer.py",
            "exchange/progress.py",
            "exchange/trail.py",
        ),
    ),
    "activity/test_activity.py": (
        *("activity/details.py", "activity/events.py", "activity/recorder.py"),
        "control/endpoints/activity.py",
    ),
    "activity/definitions/test_watch.py": ("control/endpoints/definitions.py",),
    "log/test_reading.py": ("log/recent.py",),
    "hooks/test_chain.py": (
        *("hooks/failures.py", "hooks/implementations.py"),
        *("hooks/lifecycle.py", "hooks/verdicts.py"),
    ),
    "cli/serving/test_reload.py": ("cli/serving/file_source.py", "cli/serving/launch.py"),
    "generations/test_reloads.py": (
        *("generations/overview.py", "generations/parts.py"),
        *("generations/reloadable.py", "generations/source.py"),
    ),
    "cli/test_app.py": (
        *("cli/commands/files.py", "cli/commands/logins.py", "cli/commands/serving.py", "cli/commands/tools.py"),
        *("cli/commands/config.py", "cli/commands/upstreams.py"),
        "cli/status.py",
    ),
    "hooks/test_pages.py": ("api/page.py",),
    "hooks/test_observers.py": ("api/events.py", "api/verdict.py", "pipeline/observed.py"),
    "cli/importing/test_convert.py": ("cli/importing/placeholders.py", "cli/importing/server.py"),
    "cli/logins/test_login.py": ("cli/logins/targets.py",),
    "cli/live/test_ui.py": ("cli/live/token.py", "cli/logins/browser.py"),
    "control/test_browsers.py": ("control/endpoints/browsers.py",),
    "control/test_openapi.py": ("control/endpoints/description.py",),
    "cli/inspecting/test_check.py": ("cli/inspecting/problems.py",),
    "cli/test_client.py": ("cli/running.py",),
    "cli/test_instance.py": ("cli/state/lock_file.py",),
    "cli/test_serving.py": ("cli/settings.py",),
    "cli/serving/test_start.py": (
        "cli/serving/detach.py",
        "cli/serving/lifetime.py",
        "cli/serving/serve.py",
        "cli/stop.py",
        "gateway.py",
    ),
    "config/test_models.py": (
        *("config/auth.py", "config/expand.py", "config/fields.py"),
        *("config/report.py", "config/sections.py"),
    ),
    "config/test_entries.py": ("config/profiles.py",),
    "cli/test_init.py": ("config/template.py",),
    "conformance/test_clauses_tasks.py": ("catalog/tasks.py",),
    "upstream/connections/test_limiter.py": ("exchange/unanswered.py",),
    "control/test_app.py": (
        *("control/plugin_pages.py", "control/report.py", "control/responses.py"),
        *("control/endpoints/calls.py", "control/endpoints/catalog.py", "control/endpoints/health.py"),
        *("control/endpoints/sessions.py", "control/endpoints/state.py", "control/shapes.py", "control/table.py"),
    ),
    "control/test_serving.py": ("control/endpoint.py",),
    "cli/live/test_following.py": ("cli/live/events.py", "cli/live/logs.py", "cli/live/top.py"),
    "cli/live/test_calls.py": (*("cli/commands/live.py", "cli/live/sessions.py", "downstream/sessions/listing.py"),),
    "demo/test_tour.py": (
        *("demo/http_server.py", "demo/processes.py", "demo/stage.py", "demo/stdio_server.py", "demo/steps.py"),
    ),
    "pipeline/input_required/test_carrier.py": ("pipeline/input_required/relay.py",),
    "pipeline/input_required/test_plugin_questions.py": ("pipeline/input_required/places.py",),
    "hooks/test_hookspecs.py": ("api/conflict.py", "api/upstream.py"),
    "api/test_call.py": ("api/served.py",),
    "api/approving/test_approvals.py": ("api/approving/memory.py",),
    "api/hiding/test_hider.py": ("api/hiding/names.py", "api/hiding/shapes.py"),
    "downstream/subscriptions/test_resources.py": ("downstream/subscriptions/asking.py",),
    "pipeline/test_pipeline.py": (
        *("internal_errors.py", "pipeline/delivery.py", "pipeline/params.py", "pipeline/results.py"),
        "pipeline/targets.py",
    ),
    "testing/test_fakes.py": ("testing/users.py",),
    "upstream/test_watch.py": ("upstream/connection_manager.py", "upstream/life/checks.py", "upstream/upstream.py"),
    "upstream/user_logins/test_attempts.py": ("upstream/user_logins/attempt.py",),
    "upstream/auth/test_login_tokens.py": ("upstream/auth/login_state.py",),
    "acceptance/test_user_logins.py": ("pipeline/input_required/login_questions.py",),
    "upstream/auth/test_discovery.py": ("upstream/auth/documents.py", "upstream/auth/http.py"),
    "upstream/auth/test_tokens.py": (
        *("upstream/auth/client_credentials.py", "upstream/auth/client_grant.py", "upstream/auth/endpoint.py"),
    ),
    "downstream/test_app.py": (
        *("downstream/admission.py", "downstream/agents.py", "downstream/http_errors.py"),
        *("downstream/calls/calls.py", "downstream/post.py"),
        "downstream/downstream.py",
    ),
    "downstream/test_legacy_http.py": ("downstream/legacy.py",),
    "downstream/test_modern.py": ("downstream/subscriptions/subscription.py", "downstream/subscriptions/tasks.py"),
    "downstream/sessions/test_live.py": ("downstream/sessions/record.py",),
    "downstream/sessions/test_store.py": ("downstream/sessions/holders.py",),
    "downstream/test_stdio.py": ("downstream/duplex.py",),
    "http1/test_server.py": ("http1/application.py", "http1/response.py", "http1/sse.py"),
    "inline/test_driver.py": ("inline/promoted.py",),
    "mcp/test_jsonrpc.py": ("mcp/passes.py",),
    "http1/client/test_connection.py": (
        *("mcp/header_values.py", "http1/client/dial.py", "http1/client/head.py"),
        *("http1/client/response.py", "http1/client/parser.py"),
    ),
    "upstream/notifications/test_watches.py": (
        *("upstream/notifications/announcements.py", "upstream/notifications/logs.py"),
        *("upstream/notifications/subscription.py", "upstream/notifications/pauses.py"),
    ),
    "upstream/transports/test_duplex.py": (
        "upstream/base.py",
        "upstream/messages/unexpected.py",
        "upstream/pending.py",
    ),
    "upstream/transports/test_negotiation.py": (
        *("upstream/transports/handshakes.py", "upstream/transports/opening.py"),
        "upstream/request_body.py",
    ),
    "upstream/transports/test_http_session.py": ("upstream/messages/sends.py",),
    "upstream/test_inline_calls.py": ("pipeline/plans.py", "upstream/requests.py"),
    "upstream/lists/test_private_lists.py": ("upstream/pool.py",),
    "generations/editing/test_keyed.py": ("generations/editing/blocks.py",),
    "upstream/process/test_child.py": ("upstream/process/lifeline.py",),
    "upstream/network/test_proxies.py": ("upstream/network/access.py", "upstream/network/host.py"),
    "upstream/connections/test_sessions.py": (
        "upstream/connections/isolation.py",
        "upstream/connections/await_shared.py",
    ),
}
"""Modules that are seen only through a neighbour, by the file that tests both."""
WITHOUT_TESTS = {
    "errors.py": "codes and classes",
    "http1/media_types.py": "constants",
    "http1/client/field_names.py": "constants",
    "mcp/literals.py": "constants",
    "cli/__main__.py": "one line",
    "cli/exit_codes.py": "constants",
    "config/keys.py": "constants",
}
BY_NAME = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)


def project(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return table


def test_these_are_the_plugins() -> None:
    assert [plugin.name for plugin in PLUGINS] == [
        "audit_log",
        "auth_apikey",
        "auth_jwt",
        "auth_mtls",
        "conflict_autoprefix",
        "conflict_priority",
        "conflict_reject",
        "observe_metrics",
        "observe_traces",
        "routing_priority",
        "routing_roundrobin",
        "security_approval",
        "security_policy",
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
    assert sorted(without) == [], "these have no tests"
    alone = tests - {_test_of(source) for source in sources}
    assert sorted(it for it in alone if not _listed(it, SUITES)) == [], "these mirror no source"
    assert sorted(named & mirrored | named - sources) == [], "these exceptions are out of date"
    assert sorted(TESTED_IN.keys() - tests) == [], "these exceptions name no tests"


def test_no_test_bounds_wall_time_from_above() -> None:
    found = []
    for path in [*TESTS.rglob("*.py"), *ROOT.glob("plugins/*/tests/*.py")]:
        relative = path.relative_to(ROOT).as_posix()
        if "/.venv/" in relative:
            continue  # `make conformance` installs packages there
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


PUBLIC = {"gateway_core", "gateway_core.testing"}
"""All that a plugin may import of the core; what it ships may import the first only."""


def imports_of(path: Path) -> set[str]:
    """The modules of the core that a file imports. `from gateway_core import hooks` counts as `gateway_core.hooks`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            exported = gateway_core.__all__ if node.module == "gateway_core" else [alias.name for alias in node.names]
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if alias.name not in exported)
    return {module for module in found if module.partition(".")[0] == "gateway_core"}


@BY_NAME
def test_a_plugin_imports_of_the_core_what_is_public_and_nothing_else(plugin: Path) -> None:
    shipped = {path: imports_of(path) for path in plugin.glob("gateway_*/**/*.py")}
    tests = {path: imports_of(path) for path in plugin.glob("tests/**/*.py")}
    assert {path: found for path, found in shipped.items() if not found <= {"gateway_core"}} == {}
    assert {path: found for path, found in tests.items() if not found <= PUBLIC} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import gateway_core.errors",
        "import gateway_core.errors as found",
        "from gateway_core import hooks",
        "from gateway_core import Call, hooks as found",
        "from gateway_core.errors import RpcError",
        "def later():\n    from gateway_core.pipeline.pipeline import Pipeline",
        "if False:\n    import gateway_core.testing.inner",
    ],
)
def test_an_import_of_the_cores_inside_is_found_wherever_it_stands(tmp_path: Path, line: str) -> None:
    (tmp_path / "plugin.py").write_text(f"from gateway_core import Call, hookimpl\n{line}\n")
    assert not imports_of(tmp_path / "plugin.py") <= PUBLIC


SET_FROM_OUTSIDE: dict[str, set[str]] = {
    # The standard streams of `sys`, which Python left out because they were closed.
    "gateway_core/cli/__init__.py": {"setattr"},
    # In all the others, a method would be one more call for each call of an agent, or for each part of a large body.
    "gateway_core/hooks/chain.py": {"running"},
    "gateway_core/http1/client/connection.py": {"missing"},
    "gateway_core/inline/driver.py": {"_waiter"},
    "gateway_core/upstream/connections/sessions.py": {"users"},
    "gateway_core/upstream/upstream.py": {"in_flight"},
}
"""File -> attributes that it sets on objects of other classes, today. The list may only get shorter."""


def declared_by(node: ast.ClassDef) -> set[str]:
    """The attributes that a class declares: in its body, its `__slots__`, or by its methods on `self`."""
    found: set[str] = set()
    for part in node.body:
        match part:
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=ast.Tuple(elts=names) | ast.List(elts=names)):
                found.update(name.value for name in names if isinstance(name, ast.Constant))
            case ast.Assign(targets=targets):
                found.update(target.id for target in targets if isinstance(target, ast.Name))
    found.update(
        part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute) and is_stored(part) and is_own(part)
    )
    return found


def is_stored(node: ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store | ast.Del)


def is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}


def set_from_outside(tree: ast.Module, declared: Set[str]) -> set[str]:
    """The attributes among the `declared` ones that a module sets on anything but an object of the class around.

    Another object of the class around is a parameter that is annotated with it. `setattr` counts, whatever it sets.
    """
    found: set[str] = set()

    def visit(node: ast.AST, own: Set[str], others: Set[str]) -> None:
        """`own`: what the class around declares. `others`: parameters that are objects of it."""
        match node:
            case ast.ClassDef():
                own, others = declared_by(node) | {f"class {node.name}"}, frozenset()
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                others = others | {
                    it.arg for it in parameters if it.annotation and f"class {ast.unparse(it.annotation)}" in own
                }
            case ast.Attribute(value=value, attr=name) if is_stored(node) and not is_own(node):
                is_sibling = isinstance(value, ast.Name) and value.id in others and name in own
                if name in declared and not is_sibling:
                    found.add(name)
            case ast.Call(func=ast.Name(id="setattr" | "delattr" as name), args=[on, *_]):
                if ast.unparse(on) != "self":
                    found.add(name)
            case ast.Call(func=ast.Attribute(attr="__setattr__" | "force_setattr" as name), args=[on, *_]):
                if ast.unparse(on) != "self":
                    found.add(name)
        for child in ast.iter_child_nodes(node):
            visit(child, own, others)

    visit(tree, frozenset(), frozenset())
    return found


def test_no_attribute_is_set_from_outside_the_class_that_declares_it() -> None:
    """An attribute that no class here declares belongs to a library, which may want it set."""
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in SHIPPED}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    declared = frozenset().union(*map(declared_by, classes))
    found = {path: set_from_outside(tree, declared) for path, tree in trees.items()}
    new = {path: names - SET_FROM_OUTSIDE.get(path, set()) for path, names in found.items()}
    assert {path: names for path, names in new.items() if names} == {}, "give the class a method for it"
    gone = {path: names - found.get(path, set()) for path, names in SET_FROM_OUTSIDE.items()}
    assert {path: names for path, names in gone.items() if names} == {}, "remove these from SET_FROM_OUTSIDE"


_CLASS = """
class A:
    x: int
    __slots__ = ("y",)
    def __init__(self): self.z = 1
    def same(self, other: A): other.z = 2
"""


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("", set()),
        ("def f(a): a.x = 1", {"x"}),
        ("def f(a: A): a.y += 1", {"y"}),
        ("async def f(a): del a.b.z", {"z"}),
        ("def f(a):\n    for a.x in (): pass", {"x"}),
        ("def f(a): a.x, (b, a.y) = 1, (2, 3)", {"x", "y"}),
        ("def f(a): a.library = 1", set()),
        ("def f(a): setattr(a, 'any', 1)", {"setattr"}),
        ("def f(a): object.__setattr__(a, 'x', 1)", {"__setattr__"}),
        ("class B:\n    x: int\n    def f(self, a: A): a.x = self.x = 1", {"x"}),
        ("class B:\n    x: int\n    def f(self, a: B): self.a.x = 1", {"x"}),
    ],
)
def test_what_counts_as_set_from_outside(code: str, found: set[str]) -> None:
    assert set_from_outside(ast.parse(_CLASS + code), {"x", "y", "z"}) == found


@BY_NAME
def test_a_plugin_has_one_name_everywhere(plugin: Path) -> None:
    table = project(plugin)
    dashed = plugin.name.replace("_", "-")
    package = f"gateway_{plugin.name}"
    assert table["name"] == f"gateway-{dashed}"
    assert set(table["entry-points"]) <= {"gateway_core", "gateway_core.commands"}
    ((name, target),) = table["entry-points"]["gateway_core"].items()
    assert name == plugin.name
    assert target.startswith(f"{package}.")
    assert (plugin / package / "__init__.py").exists()
    (installed,) = entry_points(group="gateway_core", name=plugin.name)
    assert installed.load().__module__.startswith(package)


@BY_NAME
def test_a_plugins_settings_have_one_shape(plugin: Path) -> None:
    (point,) = entry_points(group="gateway_core", name=plugin.name)
    made = point.load()
    if "config" not in inspect.signature(made).parameters:
        assert not hasattr(made, "Config")
        return
    assert issubclass(made, Plugin)
    assert (made.Config.__name__, made.Config.__qualname__) == ("Settings", "Settings")
    assert made.Config.__module__ in {f"gateway_{plugin.name}.{name}" for name in ("plugin", "settings")}


@BY_NAME
def test_descriptions_of_settings_are_phrases_because_messages_have_them_in_brackets(plugin: Path) -> None:
    (point,) = entry_points(group="gateway_core", name=plugin.name)
    described = list(descriptions(settings_model(point.name)))
    assert [text for text in described if text.endswith(".") or re.match(r"[A-Z][a-z]", text)] == []


def descriptions(model: type[BaseModel]) -> Iterator[str]:
    """The descriptions of the fields of a model, and of those that it contains."""
    for field in model.model_fields.values():
        yield field.description or ""
        for part in alternatives(field.annotation):
            for inside in (part, *get_args(part)):
                if inspect.isclass(inside) and issubclass(inside, BaseModel) and inside is not model:
                    yield from descriptions(inside)


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
    assert len(declared) == 1 + len(PLUGINS)
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
        assert promised == {"test", "floods", "check", "newest", "e2e", "demo", "guard", "conformance"}
    assert promised, "the page promises no target at all"
    assert promised <= targets


def _code(markdown: str) -> str:
    """The code of a Markdown text, because prose uses the word `make` too."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", markdown, re.M | re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", markdown, flags=re.M | re.S))
    return "\n".join([*blocks, *spans]) + "\n"


def _uncommented(script: str) -> str:
    return "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("#"))
