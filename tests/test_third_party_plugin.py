"""A plugin distribution that was never in this repository: built, installed by pip or uv, enabled by name, obeyed.

The build needs no network: the distribution brings its own build backend (PEP 517, `backend-path`).
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

FILES = {
    "pyproject.toml": """
        [build-system]
        requires = []
        build-backend = "backend"
        backend-path = ["."]

        [project]
        name = "acme-curfew"
        version = "2.5"
        dependencies = ["gateway-core"]

        [project.entry-points.gateway_core]
        curfew = "acme_curfew:Curfew"
    """,
    "acme_curfew.py": """
        from gateway_core import Call, PluginConfig, Reject, hookimpl


        class Curfew:
            class Config(PluginConfig):
                closed: bool = False

            def __init__(self, config: Config) -> None:
                self.config = config

            @hookimpl
            async def before_call(self, call: Call) -> Reject | None:
                return Reject(f"{call.name} is closed for the night") if self.config.closed else None
    """,
    "backend.py": """
        import tomllib
        import zipfile
        from pathlib import Path

        def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
            project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
            stem = f"{project['name'].replace('-', '_')}-{project['version']}"
            points = project["entry-points"]["gateway_core"].items()
            info = f"{stem}.dist-info"
            contents = {
                "acme_curfew.py": Path("acme_curfew.py").read_text(),
                f"{info}/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n".format(**project),
                f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
                f"{info}/entry_points.txt": "[gateway_core]\\n" + "".join(f"{n} = {v}\\n" for n, v in points),
            }
            contents[f"{info}/RECORD"] = "".join(f"{name},,\\n" for name in [*contents, f"{info}/RECORD"])
            with zipfile.ZipFile(Path(wheel_directory) / f"{stem}-py3-none-any.whl", "w") as wheel:
                for name, text in contents.items():
                    wheel.writestr(name, text)
            return f"{stem}-py3-none-any.whl"
    """,
}

CHILD = """
import asyncio, json, sys
from pathlib import Path
from gateway_core import config
from gateway_core.hooks import loader as plugins
from gateway_core.errors import PluginError
from gateway_core.testing import FakeUpstream, make_call, run_call

path = Path(sys.argv[1])
seen = {"installed": {found.name: [found.distribution, found.version] for found in plugins.installed()}}
try:
    loaded = plugins.load(config.load(path).proxy.plugins, str(path))
except PluginError as error:
    seen["error"] = str(error)
else:
    seen["loaded"] = [plugin.name for plugin in loaded]
    result = asyncio.run(run_call(make_call("echo"), FakeUpstream(), *loaded))
    seen["answer"] = result.error.message if result.error else result.content["content"][0]["text"]
seen["imported"] = "acme_curfew" in sys.modules
print(json.dumps(seen))
"""

UPSTREAM = """
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "one"
transport = "http"
url = "http://127.0.0.1:1/mcp"

"""


def _installer() -> list[str]:
    """The command line of a pip that works here; an environment made by uv has none of its own."""
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--offline", "--python", sys.executable]
    for command in ([sys.executable, "-m", "pip"], ["pip3"], ["pip"], [sys._base_executable, "-m", "pip"]):
        found = shutil.which(command[0])
        if found and subprocess.run([*command, "--version"], check=False, capture_output=True).returncode == 0:
            return [*command, "install", "--no-index", "--no-cache-dir"]
    raise AssertionError("neither uv nor pip is here to install a plugin with")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder into which the foreign distribution was built and installed."""
    source, target = tmp_path_factory.mktemp("acme"), tmp_path_factory.mktemp("site")
    for name, text in FILES.items():
        (source / name).write_text(textwrap.dedent(text).lstrip())
    command = [*_installer(), "--no-deps", "--target", str(target), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def start(site, tmp_path):
    """`start(toml)` loads the plugins of a configuration in a fresh process; returns what it saw."""

    def run(plugins: str):
        path = tmp_path / "mcp-proxy.toml"
        path.write_text(UPSTREAM + textwrap.dedent(plugins).lstrip())
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(path)],
            env={**os.environ, "PYTHONPATH": str(site)},
            check=True,
            capture_output=True,
            text=True,
            timeout=50,
        )
        return json.loads(done.stdout)

    return run


def test_a_foreign_plugin_is_enabled_by_name_and_obeyed(start):
    seen = start("""
        [[mcp.proxy.plugins]]
        name = "curfew"
        closed = true
    """)
    assert seen["loaded"] == ["curfew"]
    assert seen["answer"] == "echo is closed for the night"
    assert seen["installed"]["curfew"] == ["acme-curfew", "2.5"]


def test_its_wrong_settings_are_reported_at_their_lines(start, tmp_path):
    seen = start("""
        [[mcp.proxy.plugins]]
        name = "curfew"
        closed = "perhaps"
        open = 1
    """)
    path = f"{tmp_path / 'mcp-proxy.toml'}"
    line = len(UPSTREAM.splitlines())
    first, second = seen["error"].splitlines()
    assert first.startswith(
        f"{path}:{line + 3}: mcp.proxy.plugins[0] (curfew): closed: must be true or false, but is text"
    )
    assert second.startswith(f"{path}:{line + 4}: mcp.proxy.plugins[0] (curfew): open: unknown setting; ")
    assert "perhaps" not in seen["error"]


@pytest.mark.parametrize(
    "plugins",
    [
        "",
        '[[mcp.proxy.plugins]]\nname = "routing_priority"\n',
        '[[mcp.proxy.plugins]]\nname = "curfew"\nclosed = true\nenabled = false\n',
    ],
    ids=["no list", "another plugin", "not enabled"],
)
def test_it_is_inert_when_the_file_does_not_enable_it(start, plugins):
    seen = start(plugins)
    assert "curfew" in seen["installed"]
    assert "curfew" not in seen["loaded"]
    assert not seen["imported"]
    assert seen["answer"] == "ok"


DEMO = f"""\
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "toolbox"
transport = "stdio"
command = "{sys.executable}"
args = ["-m", "gateway_core.demo.stdio_server"]

"""


@pytest.fixture
def rad(site, tmp_path):
    """`rad(plugins, "call", "add", …)` runs the command line with the plugin installed."""

    def run(plugins: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "mcp-proxy.toml"
        path.write_text(DEMO + textwrap.dedent(plugins).lstrip())
        return subprocess.run(
            [str(Path(sys.executable).with_name("rad")), "mcp", "proxy", *arguments, "--config", str(path)],
            env={**os.environ, "PYTHONPATH": str(site)},
            check=False,
            capture_output=True,
            text=True,
            timeout=50,
        )

    return run


def test_the_command_line_obeys_it_only_where_the_file_names_it(rad):
    add = ("call", "add", "--arg", "a=2", "--arg", "b=3")
    enabled = '[[mcp.proxy.plugins]]\nname = "curfew"\nclosed = true\n'
    refused = rad(enabled, *add)
    assert refused.returncode == 1
    assert "add is closed for the night" in refused.stdout + refused.stderr
    assert rad("", *add).stdout.strip() == "5"
    assert "curfew" in rad(enabled, "plugins").stdout


def test_the_command_line_reports_its_wrong_settings_at_their_line(rad):
    done = rad('[[mcp.proxy.plugins]]\nname = "curfew"\nclosed = "perhaps"\n', "check")
    assert done.returncode == 2
    line = len(DEMO.splitlines()) + 3
    assert f"mcp-proxy.toml:{line}: mcp.proxy.plugins[0] (curfew): closed" in done.stderr
