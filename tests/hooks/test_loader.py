"""Finding, checking and constructing plugins: real distributions' metadata, in a folder of the test's own."""

import importlib
import itertools
import re
import sys
import textwrap
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path

import pytest

from gateway_core import PluginConfig
from gateway_core.config import PluginEntry, ProxyConfig, UpstreamConfig
from gateway_core.errors import PluginError
from gateway_core.hooks.loader import installed, load, load_plugins
from gateway_core.mcp.names import CALLS

_numbers = itertools.count()
PLUGINS = Path(__file__).parents[2] / "plugins"

HEADER = """
from gateway_core import Call, CallResult, Claim, Health, PluginConfig, Reject, hookimpl
from pydantic import Field, SecretStr, field_validator
"""
GOOD = """
class Plugin:
    class Config(PluginConfig):
        limit: int = Field(default=1, description="how many")

    def __init__(self, config):
        self.limit = config.limit

    @hookimpl
    def before_call(self, call):
        pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install(name, source)` puts a distribution with one plugin on the path, and returns its module's name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def add(name, source=GOOD, *, distribution=None, attribute="Plugin", version="1.2"):
        module = f"plugin_under_test_{next(_numbers)}"
        distribution = distribution or f"gateway-{name.replace('_', '-')}"
        (tmp_path / f"{module}.py").write_text(HEADER + textwrap.dedent(source))
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[gateway_core]\n{name} = {module}:{attribute}\n")
        importlib.invalidate_caches()
        made.append(module)
        return module

    yield add
    for module in made:
        sys.modules.pop(module, None)


def entry(name, line=10, key_lines=None, **settings):
    reserved = {key: settings.pop(key) for key in ("enabled", "on_error") if key in settings}
    return PluginEntry(name=name, settings=settings, line=line, key_lines=key_lines or {}, **reserved)


def problems(*entries):
    with pytest.raises(PluginError) as refused:
        load(entries, "mcp-proxy.toml")
    return str(refused.value).splitlines()


def problem(*entries):
    (line,) = problems(*entries)
    return line


def test_paths_among_settings_start_at_the_folder_of_the_file(install, tmp_path):
    install(
        "paths",
        """
        from pathlib import Path
        from gateway_core import ConfigPath

        class Plugin:
            class Config(PluginConfig):
                book: ConfigPath = Path("book.txt")

            def __init__(self, config):
                self.book = config.book

            @hookimpl
            def before_call(self, call):
                pass
        """,
    )
    (plugin,) = load([entry("paths")], str(tmp_path / "mcp-proxy.toml"))
    assert plugin.instance.book == tmp_path / "book.txt"
    (plugin,) = load([entry("paths", book="../x")], str(tmp_path / "mcp-proxy.toml"))
    assert plugin.instance.book == tmp_path / "../x"


def test_a_plugin_is_found_by_name_and_made_with_its_settings(install):
    install("watch")
    (plugin,) = load([entry("watch", limit=7, on_error="ignore")])
    assert plugin.name == "watch"
    assert plugin.instance.limit == 7
    assert (plugin.distribution, plugin.version) == ("gateway-watch", "1.2")
    assert plugin.hooks == ("before_call",)
    assert plugin.on_error == "ignore"
    assert plugin.methods == CALLS


def test_the_order_is_the_files(install):
    for name in ("alpha", "beta", "gamma"):
        install(name)
    loaded = load([entry(name) for name in ("gamma", "alpha", "beta")])
    assert [plugin.name for plugin in loaded] == ["gamma", "alpha", "beta"]


def test_installed_is_not_enabled(install):
    named, silent, disabled = install("named"), install("silent"), install("disabled")
    load([entry("named"), entry("disabled", enabled=False)])
    assert {"named", "silent", "disabled"} <= {plugin.name for plugin in installed()}
    assert named in sys.modules
    assert silent not in sys.modules
    assert disabled not in sys.modules


def test_installed_lists_name_distribution_and_version(install):
    install("watch", version="3.4")
    found = {plugin.name: plugin for plugin in installed()}
    assert (found["watch"].distribution, found["watch"].version) == ("gateway-watch", "3.4")
    assert found["security_redact"].distribution == "gateway-security-redact"


REQUIRED = {"auth_jwt": {"audience": "https://gateway.example.com", "issuers": [{"issuer": "https://a.example"}]}}
"""Plugin -> the settings that it has no defaults for."""


def test_the_plugins_of_the_repository_load_with_their_defaults():
    names = [plugin.name for plugin in installed() if plugin.distribution.startswith("gateway-")]
    assert names == sorted(path.parent.name for path in PLUGINS.glob("*/pyproject.toml"))
    assert all(len(load([entry(name, **REQUIRED.get(name, {}))], certificates=True)) == 1 for name in names)


def test_a_plugin_may_have_neither_settings_nor_constructor(install):
    source = """
    class Plugin:
        @hookimpl
        async def check_health(self, upstream):
            pass
    """
    install("plain", source)
    (plugin,) = load([entry("plain")])
    assert plugin.hooks == ("check_health",)
    assert "this plugin has no settings" in problem(entry("plain", limit=1))


def test_a_plugin_that_fails_closed_cannot_be_told_to_let_calls_pass(install):
    install("guard", GOOD + "    fails_closed = True\n")
    assert len(load([entry("guard")])) == 1
    assert problem(entry("guard", on_error="ignore")).endswith(
        'must refuse calls when it fails; remove on_error = "ignore"'
    )


def test_methods_are_the_classes_own(install):
    install("lists", GOOD + "    methods = ('tools/list', 'tools/call')\n")
    assert load([entry("lists")])[0].methods == {"tools/list", "tools/call"}


# -- what is reported ------------------------------------------------------------------------------------------------


@pytest.fixture
def only_installed(monkeypatch):
    """`only_installed("a")` makes these the only plugins that are installed."""

    def only(*names):
        points = [EntryPoint(name, "nothing:Nothing", "gateway_core") for name in names]
        monkeypatch.setattr(
            "gateway_core.hooks.loader.entry_points",
            lambda group, **wanted: EntryPoints(points).select(**wanted),
        )

    return only


def test_the_metadata_of_distributions_is_read_once_for_all_plugins(monkeypatch):
    looked = []
    monkeypatch.setattr(
        "gateway_core.hooks.loader.entry_points", lambda **wanted: looked.append(wanted) or entry_points(**wanted)
    )
    assert len(load([entry("routing_priority"), entry("conflict_autoprefix")])) == 2
    assert looked == [{"group": "gateway_core"}]


def test_a_bundled_plugin_that_is_missing_names_the_command_that_installs_it(only_installed):
    only_installed("own")
    assert problem(entry("routing_priority", line=4)) == (
        "mcp-proxy.toml:4: mcp.proxy.plugins[0] (routing_priority): is not installed; "
        "run: pip install gateway-routing-priority"
    )


@pytest.mark.parametrize("name", ["security_redakt", "security-redact", "redact_security", "security_redact2"])
def test_a_misspelt_name_is_never_part_of_a_command(name, only_installed):
    line = problem(entry(name))
    assert "pip install" not in line
    assert "did you mean security_redact?" in line or "; installed are: " in line
    only_installed()
    line = problem(entry(name))
    command = line.partition("pip install ")[2]
    assert command in {"", "gateway-security-redact"}


def test_for_an_unknown_name_the_installed_plugins_are_listed(only_installed):
    only_installed("own", "other")
    assert problem(entry("night_watch")).endswith(
        "is not installed; correct the name, or install the distribution that provides it; installed are: other, own"
    )
    only_installed()
    assert problem(entry("night_watch")).endswith("installed are: none")


def test_no_command_is_made_of_what_is_no_name():
    wrong = PluginEntry.model_construct(name="x; rm -rf ~", enabled=True, settings={}, line=None, key_lines={})
    line = problem(wrong)
    assert line.startswith("mcp-proxy.toml: mcp.proxy.plugins[0]")
    assert "is not a plugin name" in line
    assert "pip" not in line


def test_two_distributions_under_one_name_are_both_named(install):
    install("watch", distribution="gateway-watch")
    install("watch", distribution="watch-fork", version="9")
    line = problem(entry("watch"))
    assert "is provided by 2 distributions" in line
    assert "gateway-watch 1.2" in line
    assert "watch-fork 9" in line


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class Panic(BaseException): pass\nraise Panic('at once')", "Panic: at once"),
        ("import asyncio\nraise asyncio.CancelledError", "CancelledError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("", "AttributeError"),
    ],
)
def test_an_import_that_fails_is_reported(install, source, what):
    install("broken", source)
    line = problem(entry("broken"))
    assert "cannot be imported from plugin_under_test_" in line
    assert what in line


def test_an_entry_point_that_is_no_class_is_reported(install):
    install("function", "def Plugin(config): pass")
    assert "is not a class" in problem(entry("function"))


def test_a_constructor_that_fails_is_reported(install):
    source = GOOD.replace("self.limit = config.limit", "raise RuntimeError('no\\nroute')")
    install("broken", source)
    assert problem(entry("broken")).endswith("cannot be constructed: RuntimeError: no route")


@pytest.mark.parametrize("kind", ["BaseException", "KeyboardInterrupt", "GeneratorExit", "SystemExit"])
def test_whatever_a_plugin_raises_while_it_is_made_is_reported(install, kind):
    install("broken", GOOD.replace("self.limit = config.limit", f"raise {kind}('now')"))
    assert problem(entry("broken")).endswith(f"cannot be constructed: {kind}: now")
    install("validated", SETTINGS.replace("RuntimeError(value)", f"{kind}(value)"))
    assert problem(entry("validated", must="x", mode="crash")).endswith(f"its settings cannot be checked: {kind}")
    install("trap", GOOD + f"\n    def __dir__(self):\n        raise {kind}('trapped')\n")
    assert f"is refused by pluggy: {kind}: trapped" in problem(entry("trap"))


SETTINGS = """
class Inner(PluginConfig):
    depth: int = 0

class Plugin:
    class Config(PluginConfig):
        limit: int = Field(default=1, ge=0, description="calls per minute")
        key: SecretStr = SecretStr("")
        hosts: tuple[int, ...] = ()
        inner: Inner = Inner()
        mode: str = "on"
        must: str = Field(description="where to")

        @field_validator("mode")
        @classmethod
        def _mode(cls, value):
            if value == "crash":
                raise RuntimeError(value)
            if value != "on":
                raise ValueError("use on")
            return value

    def __init__(self, config):
        pass

    @hookimpl
    def before_call(self, call):
        pass
"""


def test_settings_are_all_reported_at_once_each_at_its_line(install):
    install("set", SETTINGS)
    lines = {
        "limit": 11,
        "key": 12,
        "hosts": 13,
        "hosts[1]": 15,
        "inner": 16,
        "inner.depth": 17,
        "mode": 18,
        "limmit": 19,
    }
    wrong = entry(
        "set",
        key_lines=lines,
        limit="hush1",
        key=["hush2"],
        hosts=[1, "hush3"],
        inner={"depth": "hush4", "width": "hush5"},
        mode="hush6",
        limmit=5,
    )
    found = problems(wrong)
    path = "mcp.proxy.plugins[0] (set)"
    assert [line.partition(f" {path}: ")[0::2] for line in found] == [
        (
            "mcp-proxy.toml:11:",
            "limit: must be a whole number, but is text (calls per minute)",
        ),
        ("mcp-proxy.toml:12:", "key: must be text in quotes, but is a list"),
        ("mcp-proxy.toml:15:", "hosts[1]: must be a whole number, but is text"),
        ("mcp-proxy.toml:17:", "inner.depth: must be a whole number, but is text"),
        ("mcp-proxy.toml:16:", "inner.width: unknown setting; did you mean depth? it has depth"),
        ("mcp-proxy.toml:18:", "mode: use on"),
        ("mcp-proxy.toml:10:", "must: is required (where to); add it"),
        (
            "mcp-proxy.toml:19:",
            "limmit: unknown setting; did you mean limit? it has limit, key, hosts, inner, mode, must",
        ),
    ]
    assert "hush" not in "\n".join(found)


def test_a_validator_that_breaks_is_reported_without_the_value(install):
    install("set", SETTINGS)
    line = problem(entry("set", must="x", mode="crash"))
    assert line.endswith("its settings cannot be checked: RuntimeError")


def test_a_config_that_is_no_plugin_config_is_refused(install):
    install("loose", GOOD.replace("class Config(PluginConfig)", "class Config"))
    assert "its Config is not a subclass of gateway_core.PluginConfig" in problem(entry("loose"))


def hooks(*methods):
    lines = "\n\n".join(textwrap.indent(textwrap.dedent(method).strip(), "    ") for method in methods)
    return f"class Plugin:\n{lines}\n"


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("def before_call(self, call): pass", "its method before_call has a hook's name but no @hookimpl above it"),
        ("def other(self): pass", "has no method marked @hookimpl; the hooks are route_tool, "),
        ("@hookimpl\ndef befor_call(self, call): pass", "befor_call is not a hook; did you mean before_call?"),
        ("@hookimpl\ndef zzz(self, call): pass", "zzz is not a hook; the hooks are route_tool, "),
        ("@hookimpl(tryfirst=True)\ndef before_call(self, call): pass", "before_call asks for tryfirst; remove it"),
        ("@hookimpl(trylast=True)\ndef before_call(self, call): pass", "before_call asks for trylast; remove it"),
        ("@hookimpl(wrapper=True)\ndef before_call(self, call):\n    yield", "before_call asks for wrapper; remove it"),
        ("@hookimpl(hookwrapper=True)\ndef before_call(self, call):\n    yield", "before_call asks for hookwrapper"),
        ("@hookimpl(specname='before_call')\ndef look(self, call): pass", "look is not a hook"),
        ("@hookimpl(specname='after_call')\ndef before_call(self, call): pass", "before_call gives a specname"),
        (
            "@hookimpl\ndef before_call(self, request): pass",
            "before_call takes request, which the hook does not",
        ),
        ("@hookimpl\ndef before_call(self, *call): pass", "before_call takes call as keyword-only or positional-only"),
        ("@hookimpl\ndef before_call(self, **more): pass", "before_call takes more, which the hook does not give"),
        ("@hookimpl\ndef before_call(self, *, call): pass", "before_call takes call as keyword-only"),
        ("@hookimpl\ndef after_call(self, call, result=None): pass", "after_call gives result a default, so pluggy"),
        ("@hookimpl\nasync def route_tool(self, call, candidates): pass", "route_tool is async; it must be sync"),
        ("@hookimpl\nasync def resolve_conflict(self, conflict): pass", "resolve_conflict is async; it must be sync"),
        ("@hookimpl\nasync def before_call(self, call):\n    yield", "before_call is a generator; return the verdict"),
        ("methods = 'tools/call'\n@hookimpl\ndef before_call(self): pass", "its methods must be a set or tuple"),
        (
            "methods = {'tools/cal'}\n@hookimpl\ndef before_call(self): pass",
            "its methods name 'tools/cal', which is none of completion/complete, prompts/get, ",
        ),
        ("methods = [[]]\n@hookimpl\ndef before_call(self): pass", "its methods name [], which is none"),
    ],
)
def test_hooks_that_would_not_do_what_they_look_like_are_refused(install, method, what):
    install("wrong", hooks(method))
    assert what in problem(entry("wrong"))


def test_hooks_may_be_static_and_leave_arguments_out(install):
    install(
        "odd",
        hooks(
            "@staticmethod\n@hookimpl\ndef before_call(call): pass",
            "@hookimpl\nasync def after_call(self, result): pass",
            "@classmethod\n@hookimpl\ndef check_health(cls): pass",
        ),
    )
    (plugin,) = load([entry("odd")])
    assert plugin.hooks == ("before_call", "after_call", "check_health")


@pytest.mark.parametrize("hook", ["route_tool", "resolve_conflict"])
def test_two_plugins_with_one_strategy_are_both_named(install, hook):
    for name in ("first", "second"):
        install(name, hooks(f"@hookimpl\ndef {hook}(self): pass"))
    line = problem(entry("first", line=1), entry("second", line=4))
    assert line == (
        f"mcp-proxy.toml:4: mcp.proxy.plugins[1] (second): implements {hook}, and so does first; "
        "enable only one of first and second"
    )


def test_two_plugins_may_share_every_other_hook(install):
    for name in ("first", "second"):
        install(name, hooks("@hookimpl\ndef check_health(self): pass"))
    assert len(load([entry("first"), entry("second")])) == 2


def test_a_plugin_that_pluggy_cannot_read_is_reported(install):
    source = GOOD + "\n    def __dir__(self):\n        raise RuntimeError('trapped')\n"
    install("trap", source)
    assert "is refused by pluggy: RuntimeError: trapped" in problem(entry("trap"))


def test_every_problem_of_every_plugin_is_reported_at_once(install):
    install("first", GOOD)
    install("second", hooks("@hookimpl\ndef befor_call(self): pass", "@hookimpl\nasync def route_tool(self): pass"))
    found = problems(entry("missing", 1), entry("first", 2, limit="x"), entry("second", 3, depth=1))
    assert [line.split(" ", 1)[0] for line in found] == [f"mcp-proxy.toml:{line}:" for line in (1, 2, 3, 3, 3)]


def test_every_setting_of_a_plugin_is_in_its_readme():
    for plugin in installed():
        if not plugin.distribution.startswith("gateway-"):
            continue
        (loaded,) = load([entry(plugin.name, **REQUIRED.get(plugin.name, {}))], certificates=True)
        readme = (PLUGINS / plugin.name / "README.md").read_text()
        assert f'name = "{plugin.name}"' in readme
        assert all(f"`{hook}`" in readme for hook in loaded.hooks)
        settings = getattr(type(loaded.instance), "Config", PluginConfig).model_fields
        assert set(re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE)) == set(settings)


def test_a_setting_from_the_environment_is_named_by_its_variable_and_not_shown(install):
    """The text of a plugin's own validator may quote the value."""
    install(
        "night_watch",
        """
        class Plugin:
            class Config(PluginConfig):
                limit: int = 1
                word: str = ""
                words: tuple[str, ...] = ()

                @field_validator("word")
                @classmethod
                def check(cls, value):
                    raise ValueError(f"{value} is not a word")

                @field_validator("words")
                @classmethod
                def check_all(cls, value):
                    raise ValueError(f"{value} are no words")

            @hookimpl
            def before_call(self, call):
                pass
        """,
    )
    settings = {"limit": "leaked", "word": "leaked", "words": ["leaked"]}
    sources = dict.fromkeys(("limit", "word", "words[0]"), "environment variable X")
    with pytest.raises(PluginError) as caught:
        load([PluginEntry(name="night_watch", settings=settings, sources=sources)])
    assert "leaked" not in str(caught.value)
    assert str(caught.value).count("(the value comes from environment variable X)") == 3
    with pytest.raises(PluginError, match="leaked is not a word"):
        load([PluginEntry(name="night_watch", settings={"word": "leaked"})])


def test_a_number_from_the_environment_fills_a_setting(install):
    install("night_watch")
    (plugin,) = load([PluginEntry(name="night_watch", settings={"limit": "7"}, sources={"limit": "the file x"})])
    assert plugin.instance.limit == 7


@pytest.mark.parametrize("name", ["name", "enabled", "on_error"])
def test_a_setting_that_the_gateway_reads_itself_cannot_be_the_plugins(install, name):
    install(
        "named",
        f'''
    class Plugin:
        class Config(PluginConfig):
            other: str = Field(default="", alias="{name}")

        def __init__(self, config): ...

        @hookimpl
        def before_call(self, call): ...
    ''',
    )
    assert f"its Config has the setting {name}, which the gateway reads itself; rename it" in problem(entry("named"))


HOOK = """
    @hookimpl
    def before_call(self, call): ...
"""


@pytest.mark.parametrize(
    "constructor",
    [
        "",
        "    def __init__(self): self.given = None",
        "    def __init__(self, *, now=None): self.given = None",
        "    def __init__(self, now=None): self.given = now",
    ],
)
def test_a_constructor_that_takes_no_settings_gets_none(install, constructor):
    install("bare", f"class Plugin:\n    given = None\n{constructor}\n{HOOK}")
    (plugin,) = load([entry("bare")])
    assert plugin.instance.given is None


@pytest.mark.parametrize(
    "constructor",
    [
        "    def __init__(self, config): self.given = config",
        "    def __init__(self, /, settings, now=None): self.given = settings",
        "    def __init__(self, *given): (self.given,) = given",
        "    Config = PluginConfig\n    def __init__(self, config=None): self.given = config",
    ],
)
def test_a_constructor_that_takes_an_argument_gets_the_settings(install, constructor):
    install("takes", f"class Plugin:\n{constructor}\n{HOOK}")
    (plugin,) = load([entry("takes")])
    assert plugin.instance.given == PluginConfig()


@pytest.mark.parametrize("constructor", ["", "    def __init__(self): ..."])
def test_settings_that_no_constructor_takes_are_reported(install, constructor):
    settings = "    class Config(PluginConfig):\n        limit: int = 1"
    install("deaf", f"class Plugin:\n{settings}\n{constructor}\n{HOOK}")
    assert "its Config has settings, but its constructor takes none" in problem(entry("deaf"))


PAGE = """
from gateway_core import Page

class Plugin:
    def __init__(self):
        self.pages = [Page("{path}", bytes)]

    @hookimpl
    def observe(self, event): ...
"""
AUTHENTICATES = """
class Plugin:
    def __init__(self):
        self.credential_headers = ("{header}",)
        self.challenges = 7

    @property
    def remember(self):
        raise OSError("hush")

    @hookimpl
    def authenticate(self, credentials): ...
"""


def test_pages_and_declarations_that_cannot_be_used_are_reported_with_all_other_problems_at_their_lines(install):
    install("api", PAGE.format(path="/api/x"))
    install("one", PAGE.format(path="/one"))
    install("two", PAGE.format(path="/one"))
    install("auth", AUTHENTICATES.format(header="x-request-id"))
    install("wrong", hooks("@hookimpl\ndef befor_call(self): pass"))
    found = problems(*(entry(name, line) for line, name in enumerate(("api", "one", "two", "auth", "wrong"), 1)))
    assert sorted(line.split(": ", 2)[0] + ": " + line.split(": ", 2)[2] for line in found) == [
        "mcp-proxy.toml:1: its page /api/x has a path that is reserved for the gateway; choose another",
        "mcp-proxy.toml:3: has the page /one, and so has one",
        "mcp-proxy.toml:4: its challenges must be a tuple of values of WWW-Authenticate",
        "mcp-proxy.toml:4: its credential_headers cannot have x-request-id, which varies between requests",
        "mcp-proxy.toml:4: its remember cannot be read: OSError: hush",
        "mcp-proxy.toml:5: befor_call is not a hook; did you mean before_call?",
    ]


def test_headers_with_credentials_that_a_plugin_wants_to_see_in_calls_are_reported_at_its_line(install):
    install(
        "auth", "class Plugin:\n    credential_headers = ('x-key',)\n    @hookimpl\n    def authenticate(self): pass"
    )
    install("curious", f"class Plugin:\n    call_headers = ('x-key', 'cookie', 'x-tenant')\n{HOOK}")
    found = problems(entry("auth", 1), entry("curious", 2))
    assert sorted(line.split(": ", 2)[2] for line in found) == [
        f"its call_headers cannot have {name}, which proves who calls; call.principal says who that is"
        for name in ("cookie", "x-key")
    ]
    assert all("toml:2: " in line for line in found)


def test_a_header_that_an_upstream_gets_is_not_shown_to_plugins_and_reported_at_the_line_of_the_plugin(install):
    install("curious", f"class Plugin:\n    call_headers = ('x-tenant', 'x-tracker-key')\n{HOOK}")
    upstream = UpstreamConfig(name="t", transport="http", url="http://t/mcp", forward={"X-Key": "header:X-Tracker-Key"})
    proxy = ProxyConfig(upstreams=(upstream,), plugins=(entry("curious", 2),))
    with pytest.raises(PluginError) as refused:
        load_plugins(proxy, "mcp-proxy.toml")
    assert str(refused.value) == (
        "mcp-proxy.toml:2: mcp.proxy.plugins[0] (curious): its call_headers cannot have x-tracker-key, which forward "
        "of an upstream passes on as a secret; remove it"
    )
    assert len(load_plugins(ProxyConfig(plugins=proxy.plugins), "mcp-proxy.toml")) == 1


def test_what_an_instance_cannot_change_is_reported(install):
    install("more", f"class Plugin:\n    def __init__(self): self.methods = {{'tools/list'}}\n{HOOK}")
    assert "its constructor adds tools/list to methods, which its class does not name" in problem(entry("more"))


def test_a_plugin_that_needs_client_certificates_needs_their_authority(install):
    install("certified", GOOD + "    needs_client_certificates = True\n")
    line = "mcp-proxy.toml:10: mcp.proxy.plugins[0] (certified): needs client certificates: set client_ca below"
    assert problem(entry("certified")).startswith(line)
    assert "needs client certificates" in problem(entry("auth_mtls"))
    assert len(load([entry("certified"), entry("auth_mtls")], certificates=True)) == 2
    assert load([entry("certified", enabled=False)]) == ()


SECRETIVE = """
    from typing import Any
    from pydantic import Secret, SecretBytes, SecretStr

    class Inner(PluginConfig):
        salts: tuple[SecretStr, ...] = ()

    class Plugin:
        class Config(PluginConfig):
            pepper: SecretStr = SecretStr("")
            by_name: dict[str, Inner] = {}
            raw: SecretBytes = SecretBytes(b"")
            any_text: Secret[str] = Secret("")
            number: Secret[int] = Secret(1)
            plain: str = "plain-text"
            keys: tuple[str, ...] = ()

        def __init__(self, config):
            pass

        @hookimpl
        def before_call(self, call):
            pass
"""


def test_the_secrets_in_the_settings_of_a_plugin_are_known(install):
    install("secretive", SECRETIVE)
    given = {"pepper": "hush-1", "by_name": {"a": {"salts": ["hush-2"]}}, "raw": "hush-3", "any_text": "hush-4"}
    (plugin,) = load([entry("secretive", **given)])
    assert {secret.value for secret in plugin.secrets} == {"hush-1", "hush-2", "hush-3", "hush-4"}
    assert {secret.label for secret in plugin.secrets} == {"a setting of plugin secretive"}
