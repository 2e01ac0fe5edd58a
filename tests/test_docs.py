"""What the README and the pages of `docs/` say is true: commands, options, TOML, links, targets, code."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway_core import PluginConfig, Reject
from gateway_core.cli.app import app
from gateway_core.cli.importing.client_file import read
from gateway_core.cli.importing.convert import convert
from gateway_core.config import Config, loads
from gateway_core.errors import ConfigError, PluginError
from gateway_core.hooks.loader import installed, settings_model
from gateway_core.hooks.settings import settings_of
from gateway_core.testing import FakeUpstream, configured, make_call, run_call, run_hook

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
READMES = sorted(ROOT.glob("plugins/*/README.md"))
EXAMPLES = sorted(ROOT.glob("examples/*.toml"))
MINIMAL = "[mcp.proxy]\nenable = true\n\n"
PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode("ascii")
)
AUTHORITY = trustme.CA()
CLIENT = AUTHORITY.issue_cert("gateway.example.com")
CERTIFICATES = {
    **dict.fromkeys(("ca", "client_ca"), AUTHORITY.cert_pem),
    "cert": CLIENT.cert_chain_pems[0],
    "key": CLIENT.private_key_pem,
}
FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\brad ((?:--\w+ )?)mcp proxy ([a-z]\w*)([^`\n|#;]*)")


class AnyVariable(Mapping[str, str]):
    """An environment in which every variable is set; one with a default in the page is empty, and so has that."""

    def __getitem__(self, name: str) -> str:
        return "a text long enough for a key of its own"

    def get(self, name: str, default: object = None) -> str:
        return ""

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(path.read_text(encoding="utf-8")) if found == language]


def code(path: Path) -> list[str]:
    """Everything that stands as code: lines of fenced blocks, and text between backticks."""
    text = path.read_text(encoding="utf-8")
    lines = [line for _, block in FENCE.findall(text) for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


# Commands


def proxy_commands() -> dict[str, Any]:
    root: Any = typer.main.get_command(app)
    proxy = root.commands["mcp"].commands["proxy"]
    return {name: proxy.get_command(None, name) for name in proxy.list_commands(None)}


def problems_of(name: str, rest: str) -> Iterator[str]:
    command = proxy_commands().get(name)
    if command is None:
        yield "there is no such command"
        return
    for word in shlex.split(rest.replace("…", "")):
        if not hasattr(command, "commands") or word.startswith("-"):
            break
        rest = rest.strip().removeprefix(word)
        command = command.commands.get(word)
        if command is None:
            yield f"it has no command {word}"
            return
    options = {option: param for param in command.params for option in param.opts if option.startswith("--")}
    places = sum(param.param_type_name == "argument" for param in command.params)
    words = iter(shlex.split(rest.replace("…", "")))
    for word in words:
        if word == "--help":
            continue
        if not word.startswith("--"):
            places -= 1
        elif word not in options or options[word].hidden:
            yield f"it has no option {word}"
        elif not options[word].is_flag and next(words, None) is None:
            yield f"{word} needs a value"
    if places < 0:
        yield "it takes no such argument"


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_command_exists_with_its_options(path: Path) -> None:
    found = []
    for snippet in code(path):
        for before, name, rest in COMMAND.findall(snippet):
            assert before in ("", "--debug "), snippet
            # In a sample of output a command may be followed by words of a sentence.
            arguments = rest.split("  ")[0].rstrip(".,)")
            found += [f"{snippet!r}: {problem}" for problem in problems_of(name, arguments)]
    for block in blocks(path, "json"):
        tables = json.loads(block)
        for server in [
            one for key in ("mcpServers", "servers", "context_servers") for one in tables.get(key, {}).values()
        ]:
            if server.get("command", "").endswith("/rad"):
                assert server["args"][:2] == ["mcp", "proxy"]
                found += [
                    f"{block}: {problem}" for problem in problems_of(server["args"][2], shlex.join(server["args"][3:]))
                ]
    assert not found, "\n".join(found)


def test_the_check_of_commands_finds_mistakes() -> None:
    assert list(problems_of("recharge", ""))
    assert list(problems_of("start", "--prot 3000"))
    assert list(problems_of("start", "file.toml"))
    assert list(problems_of("status", "--config"))
    assert list(problems_of("keys", "make alice"))
    assert list(problems_of("keys", "list alice"))
    assert not list(problems_of("keys", "add alice --group staff --expires 90d"))
    assert not list(problems_of("call", "add --arg a=2 --arg b=3 --json"))


def test_the_readme_lists_every_command() -> None:
    listed = re.findall(r"^\| `rad mcp proxy (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(proxy_commands())


def test_the_readme_names_each_option_that_selects_one_thing() -> None:
    """Such as a call, a session or an agent: what to do with it is a purpose of the command."""
    rows = dict(re.findall(r"^\| `rad mcp proxy (\w+)[^|]*\| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    missing = [
        f"{name} {option.opts[0]}"
        for name, command in proxy_commands().items()
        for option in command.params
        if option.metavar in {"ID", "KEY", "WHO"} and f"{option.opts[0]} {option.metavar}" not in rows[name]
    ]
    assert missing == []


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in PAGES:
        for snippet in code(path):
            named = re.match(r"make(?: ([a-z0-9]+))?(?:\s|$)", snippet)
            assert named is None or named[1] is None or named[1] in targets, f"{page_id(path)}: {snippet}"


# Configuration


def loads_as_it_is_or_as_a_part(text: str, folder: Path) -> Config:
    """A block is a whole file, or what is added to a minimal one. Raises `ConfigError` with the problems of both."""
    text = re.sub(r"\$\{file:/[\w/.-]*/", "${file:", text)  # the files lie in the folder instead
    for name in re.findall(r"\$\{file:([\w.-]+)\}", text):
        (folder / name).write_text(PEM if name.endswith(".pem") else "text\n", encoding="utf-8")
    for key, name in re.findall(r'\b(ca|cert|key|client_ca) = "([\w-]+\.pem)"', text):
        CERTIFICATES[key].write_to_path(str(folder / name))
    try:
        return loads(text, folder / "mcp-proxy.toml", AnyVariable())
    except ConfigError as whole:
        try:
            return loads(MINIMAL + text, folder / "mcp-proxy.toml", AnyVariable())
        except ConfigError as part:
            raise ConfigError([*whole.problems, *part.problems]) from None


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_toml_block_is_a_configuration(path: Path, tmp_path: Path) -> None:
    for block in blocks(path, "toml"):
        if block.startswith("# pyproject.toml\n"):
            assert tomllib.loads(block)["project"]["entry-points"]["gateway_core"]
        else:
            loads_as_it_is_or_as_a_part(block, tmp_path)


def test_a_wrong_block_is_found(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        loads_as_it_is_or_as_a_part("[mcp.proxy]\nenable = true\nprot = 3000\n", tmp_path)


@pytest.fixture(scope="module")
def models() -> dict[str, type[PluginConfig]]:
    """The settings of each installed plugin and of the one that the page for authors builds, by name."""
    page = ROOT / "docs" / "writing-a-plugin.md"
    (source,) = (block for block in blocks(page, "python") if block.startswith("# gateway_night_watch/plugin.py\n"))
    names: dict[str, Any] = {"__name__": "gateway_night_watch.plugin"}
    exec(compile(source, page.name, "exec", dont_inherit=True), names)
    ours = {plugin.name: settings_model(plugin.name) for plugin in installed()}
    return {**ours, "night_watch": names["NightWatch"].Config}


def check_plugin_tables(text: str, folder: Path, models: Mapping[str, type[PluginConfig]]) -> None:
    """Raise `PluginError` or `KeyError` for a table that its plugin would not accept, or of an unknown plugin."""
    for index, entry in enumerate(loads_as_it_is_or_as_a_part(text, folder).proxy.plugins):
        settings_of(models[entry.name], entry, index, str(folder / "mcp-proxy.toml"))


@pytest.mark.parametrize("path", [*EXAMPLES, *PAGES, *READMES], ids=page_id)
def test_plugins_accept_their_tables(path: Path, tmp_path: Path, models: dict[str, type[PluginConfig]]) -> None:
    for text in [path.read_text(encoding="utf-8")] if path.suffix == ".toml" else blocks(path, "toml"):
        if not text.startswith("# pyproject.toml\n"):
            check_plugin_tables(text, tmp_path, models)


def test_a_wrong_table_of_a_plugin_is_found(tmp_path: Path, models: dict[str, type[PluginConfig]]) -> None:
    table = '[[mcp.proxy.plugins]]\nname = "{}"\n{} = 7\n'
    check_plugin_tables(table.format("night_watch", "opens"), tmp_path, models)
    with pytest.raises(PluginError, match="closed: unknown setting"):
        check_plugin_tables(table.format("night_watch", "closed"), tmp_path, models)
    with pytest.raises(KeyError):
        check_plugin_tables(table.format("day_watch", "opens"), tmp_path, models)


# Links and names


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", path.read_text(encoding="utf-8"))):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.is_file(), f"{page_id(path)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page_id(path)}: {target}"


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"]({path.name})" in index, path.name
    assert "](clients/README.md)" in index
    clients = (ROOT / "docs" / "clients" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs" / "clients").glob("*.md"):
        assert path.name == "README.md" or f"]({path.name})" in clients, path.name


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "clients").glob("*.md")), ids=page_id)
def test_every_settings_block_of_a_client_can_be_imported(path: Path, tmp_path: Path) -> None:
    """What a page writes for a client has the shape that `rad mcp proxy import` reads from that client."""
    for block in blocks(path, "json"):
        source = tmp_path / "settings.json"
        source.write_text(block, encoding="utf-8")
        found = convert(read(source), address=("127.0.0.1", 3001))
        assert [one["url"] for one in found.upstreams if "url" in one] == ["http://localhost:3000/mcp"] * (
            "mcp-remote" not in block and "http://localhost:3000/mcp" in block
        )
        assert [reason.partition(": ")[2] for reason in found.left_out] == ["is this gateway"] * ("/rad" in block)
        if "http://localhost:3000/mcp" in block:
            assert not convert(read(source)).upstreams, "the gateway is not its own upstream"


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_module_that_is_named_exists(path: Path) -> None:
    for named in re.findall(
        r"`((?:gateway_core|tests|plugins|examples)/[\w./]+\.\w+)`", path.read_text(encoding="utf-8")
    ):
        assert (ROOT / named).is_file(), f"{page_id(path)}: {named}"


def test_the_walk_through_the_code_names_what_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = re.findall(r"^(?:\d+\.|-) `(gateway_core/[\w./]+)`(.*)$", text, re.MULTILINE)
    assert len(steps) > 20
    for module, step in steps:
        source = "".join(
            (ROOT / name).read_text(encoding="utf-8")
            for name in [module, *re.findall(r"`(gateway_core/[\w./]+)`", step)]
        )
        for name in re.findall(r"`(?:\w+\.)?(\w+)\(\)`", step):
            assert re.search(rf"^\s*(?:async def|def|class) {name}\b", source, re.MULTILINE), f"{module}: {name}"


def test_the_tests_that_the_threat_model_names_exist() -> None:
    text = (ROOT / "THREAT_MODEL.md").read_text(encoding="utf-8")
    cited = re.findall(r"`([\w/]*tests/[\w/]+\.py)`((?:,? `test_\w+`)+)", text)
    assert len(cited) > 20
    for module, names in cited:
        source = (ROOT / module).read_text(encoding="utf-8")
        for name in re.findall(r"test_\w+", names):
            assert f"def {name}(" in source, f"{module}: {name}"


# The plugin of the README


def readme_plugin() -> Any:
    (block,) = blocks(ROOT / "README.md", "python")
    names: dict[str, Any] = {"__name__": "gateway_read_only"}
    exec(compile(block, "README.md", "exec", dont_inherit=True), names)
    return names["ReadOnly"]


async def test_the_readmes_plugin_refuses_what_is_not_read_only() -> None:
    upstream = FakeUpstream("deleted")
    refused = await run_call(make_call("delete"), upstream, readme_plugin())
    assert refused.error is not None
    assert "delete may change something" in refused.error.message
    assert upstream.calls == []


async def test_the_readmes_plugin_lets_reading_and_the_allowed_pass() -> None:
    upstream = FakeUpstream("read")
    plugin = readme_plugin()
    assert (await run_call(make_call("read", annotations={"readOnlyHint": True}), upstream, plugin)).error is None
    assert (await run_call(make_call("add_note"), upstream, configured(plugin, allow=("add_note",)))).error is None


def test_the_readmes_plugin_refuses_unknown_tools() -> None:
    assert isinstance(run_hook(readme_plugin(), "before_call", make_call("gone", known=False)), Reject)


def test_the_readmes_plugin_is_as_short_as_it_says() -> None:
    (block,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in block.splitlines() if line.strip()]) <= 20


def test_the_table_of_owners_has_each_file_that_the_gateway_reads() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    files, _, owners = text.partition("## Files\n")[2].partition("\n### Owners and modes of files\n")
    listed = {
        name for line in files.splitlines() for name in re.findall(r"`(mcp-proxy\.[\w\-/]+)`", line.split(" | ")[0])
    }
    written = {"mcp-proxy.pid", "mcp-proxy.log", "mcp-proxy.logins-lock"}
    secrets = next(line for line in owners.splitlines() if line.startswith("| secrets and records"))
    assert written < listed
    assert listed - written - {name for name in listed if f"`{name}`" in owners.partition("\n\nA file")[0]} == set()
    assert {"mcp-proxy.definitions", "mcp-proxy.sessions", "mcp-proxy.keys"} <= set(re.findall(r"`([^`]+)`", secrets))
