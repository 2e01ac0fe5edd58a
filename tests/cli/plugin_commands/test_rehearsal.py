"""Recorded calls, judged by the plugins of a configuration."""

import sys
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from gateway_core import Call, CallResult, Judgement, Principal, RecordedCall, Rehearsal, Reject, hookimpl, note
from gateway_core.cli.plugin_commands import rehearsal
from gateway_core.errors import ConfigError
from gateway_core.testing import configured

TOML = """
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "server"
transport = "stdio"
command = %r
tools = ["read", "write"]
"""


class Says:
    """Does what `verdict` returns for a call."""

    def __init__(self, verdict: Any) -> None:
        self.verdict = verdict
        self.clock: Any = None
        self.started = False

    async def __aenter__(self) -> None:
        self.started = True

    async def __aexit__(self, *_: object) -> None:
        return

    def use_clock(self, clock: Any) -> None:
        self.clock = clock

    @hookimpl
    def before_call(self, call: Call) -> Any:
        return self.verdict(call)


@pytest.fixture
def rehearse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`rehearse(plugin, …)`: a rehearsal of a file with these plugins."""
    config = tmp_path / "mcp-proxy.toml"
    config.write_text(TOML % sys.executable)
    config.chmod(0o600)
    load = rehearsal.load_with_plugins

    def make(*plugins: object) -> Rehearsal:
        loaded = tuple(configured(plugin, name=f"p{number}") for number, plugin in enumerate(plugins))
        monkeypatch.setattr(rehearsal, "load_with_plugins", lambda path: (load(path)[0], loaded))
        return Rehearsal(config)

    return make


def recorded(name: str = "read", **more: Any) -> RecordedCall:
    given = {"upstreams": ("server",), "tool": name, "arguments": b'{"a":1}', **more}
    return RecordedCall("tools/call", name, Principal("agent@test"), "modern", 1000.0, **given)


async def test_a_plugin_sees_the_call_of_the_record(rehearse: Any) -> None:
    seen: list[Call] = []
    plugin = Says(seen.append)
    call = recorded("files__read", original_name="read", tool="files__read", annotations={"readOnlyHint": True})
    assert await rehearse(plugin).judge(call) == Judgement("allow")
    (found,) = seen
    assert (found.name, found.original_name, found.upstreams, found.kind) == (
        "files__read",
        "read",
        ("server",),
        "tool",
    )
    assert found.tool is not None
    assert (found.tool.annotations, found.arguments) == ({"readOnlyHint": True}, {"a": 1})
    assert plugin.clock() == 1000.0
    assert not plugin.started


async def test_the_first_verdict_decides(rehearse: Any) -> None:
    found = rehearse(Says(lambda call: Reject("no", rule="night")), Says(lambda call: 1 / 0))
    assert await found.judge(recorded()) == Judgement("refuse", "p0", "night", "no")
    answers = rehearse(Says(lambda call: CallResult.text("cached")))
    assert await answers.judge(recorded()) == Judgement("answer", "p0")
    fails = rehearse(Says(lambda call: 1 / 0))
    assert (await fails.judge(recorded())).decision == "fail"


@pytest.mark.parametrize("arguments", [None, b'{"a":1}'])
async def test_arguments_that_were_not_recorded(rehearse: Any, arguments: bytes | None) -> None:
    rewrites = Says(lambda call: call.replace(arguments={"b": 2}))
    looks = Says(lambda call: Reject("no") if call.arguments.get("a") == 1 else None)
    undecided = Judgement("undecided", reason="the arguments were not recorded")
    refused = Judgement("refuse", "p0", reason="no")
    assert await rehearse(looks).judge(recorded(arguments=arguments)) == (undecided if arguments is None else refused)
    assert await rehearse(rewrites, looks).judge(recorded(arguments=arguments)) == Judgement("allow")


@pytest.mark.parametrize(
    "looks",
    [
        lambda call: Reject("too large") if len(call.raw_arguments) > 5 else None,
        lambda call: Reject("has a b") if b'"b"' in call.raw_arguments else None,
        lambda call: Reject("known") if call.digest() == "x" else None,
        lambda call: Reject("empty") if not call.raw_arguments else None,
    ],
)
async def test_the_json_of_arguments_that_were_not_recorded(rehearse: Any, looks: Any) -> None:
    undecided = Judgement("undecided", reason="the arguments were not recorded")
    assert await rehearse(Says(looks)).judge(recorded(arguments=None)) == undecided
    assert (await rehearse(Says(looks)).judge(recorded(arguments=b'{"a":1}'))).decision in {"allow", "refuse"}


async def test_headers_are_not_recorded(rehearse: Any) -> None:
    looks = Says(lambda call: None if call.headers.get("x-tenant") else Reject("no"))
    assert await rehearse(looks).judge(recorded()) == Judgement("undecided", reason="the headers were not recorded")


async def test_names_that_nothing_serves(rehearse: Any) -> None:
    found = rehearse(Says(lambda call: None))
    gone = Judgement("unserved", reason="no upstream of the configuration serves it")
    assert await found.judge(recorded(upstreams=("other",))) == gone
    assert await found.judge(recorded("delete")) == gone
    assert (await found.judge(recorded(upstreams=(), tool=None))).decision == "unserved"
    assert (await found.judge(recorded(upstreams=("other", "server")))).decision == "allow"


async def test_a_renamed_call_is_not_decided(rehearse: Any) -> None:
    renames = Says(lambda call: call.replace(name="other"))
    assert (await rehearse(renames).judge(recorded())).decision == "undecided"
    refuses = Says(lambda call: Reject("no"))
    assert (await rehearse(renames, refuses).judge(recorded())).decision == "refuse"


def test_a_wrong_configuration(tmp_path: Path) -> None:
    config = tmp_path / "mcp-proxy.toml"
    config.write_text("[mcp.proxy]\nenabel = true\n")
    config.chmod(0o600)
    with pytest.raises(ConfigError, match="enable"):
        Rehearsal(config)


async def test_rehearsed_calls_are_not_in_the_log(rehearse: Any, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def logs(call: Call) -> None:
        note(f"request {call.name}", {})
        logger.warning("the plugin has a problem")

    handler = logger.add(said.append, format="{message}")
    try:
        await rehearse(Says(logs)).judge(recorded())
        note("request after it", {})
    finally:
        logger.remove(handler)
    assert said == ["the plugin has a problem\n", "request after it\n"]
