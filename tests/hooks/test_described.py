"""What is said about installed plugins; real distributions' metadata, in a folder of the test's own."""

import sys
import textwrap

import pytest

from gateway_core.hooks.described import described

GOOD = """
from typing import Literal
from gateway_core import PluginConfig, hookimpl
from pydantic import Field, SecretStr

class Plugin:
    class Config(PluginConfig):
        limit: int = Field(default=3, description="how many")
        names: tuple[str, ...] = ()
        mode: Literal["a", "b"] = "a"
        ratio: float | None = None
        key: SecretStr = SecretStr("s3cr3t")
        needed: bool

    def __init__(self, config):
        pass

    @hookimpl
    def before_call(self, call):
        pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install("name", source)` puts a distribution with one plugin on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(name, source):
        module = f"described_{name}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[gateway_core]\n{name} = {module}:Plugin\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put


def of(name):
    return next(plugin for plugin in described() if plugin.name == name)


def test_settings_have_type_default_and_description(install):
    install("good", GOOD)
    plugin = of("good")
    assert plugin.hooks == ("before_call",)
    assert [(one["name"], one["type"], one["default"], one["required"]) for one in plugin.settings] == [
        ("limit", "integer", 3, False),
        ("names", "list of text", [], False),
        ("mode", '"a" or "b"', "a", False),
        ("ratio", "number", None, False),
        ("key", "text", "(secret)", False),
        ("needed", "boolean", None, True),
    ]
    assert plugin.settings[0]["description"] == "how many"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise SystemExit(3)", "cannot be imported"),
        ("import no_such_module_at_all", "cannot be imported"),
        ("Plugin = 5", "does not name a class"),
    ],
)
def test_a_broken_plugin_is_listed_with_the_reason(install, source, said):
    install("good", GOOD)
    install("broken", source)
    assert said in of("broken").problem
    assert of("good").problem is None
