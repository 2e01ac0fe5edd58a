"""The matrix's rows: each server behind the gateway, and what is asked of it.

A new server is one `Upstream` in `UPSTREAMS`: how it is started, and the steps with what each needs and what a right
answer contains. A step that a server does not have is left out, and its cells say so. Texts in the commands, needs
and answers may name `{workspace}` (the folder the servers work on), `{page}` (a web page on this machine) and, in a
command, `{port}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from clients import HERE, LEGACY_PYTHON, MODERN_PYTHON, NODE, WORKSPACE_PYTHON, Package

E2E: Final = HERE.parent
NODE_MODULES: Final = E2E / "node_modules"


@dataclass(frozen=True, slots=True)
class Ask:
    """One step: what the driver gets, and what the answer must contain (a list: these members, a text: this text)."""

    right: str | list[Any]
    needs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upstream:
    """One row. With a transport other than stdio, `command` is started first and listens on `{port}`."""

    title: str
    package: Package
    command: tuple[str, ...]
    steps: Mapping[str, Ask]
    transport: Literal["stdio", "http", "sse"] = "stdio"
    env: Mapping[str, str] = field(default_factory=dict)
    path: str = "/mcp"


def call(right: str | list[Any], name: str, **arguments: Any) -> Ask:
    """A step that is a tool call."""
    return Ask(right, {"name": name, "arguments": arguments})


def _npm(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(NODE), str(NODE_MODULES / "@modelcontextprotocol" / f"server-{name}" / "dist" / "index.js"), *arguments)


_STEPS_OF_EVERYTHING: Final = {
    "tools/list": Ask(["echo", "get-sum", "trigger-long-running-operation"]),
    "tools/call": call("The sum of 2 and 3 is 5.", "get-sum", a=2, b=3),
    "progress": call([[1, 3], [2, 3], [3, 3]], "trigger-long-running-operation", duration=0.3, steps=3),
    "resources/list": Ask(["demo://resource/static/document/features.md"]),
    "resources/templates/list": Ask(["demo://resource/dynamic/text/{resourceId}"]),
    "resources/read": Ask("Features", {"uri": "demo://resource/static/document/features.md"}),
    "prompts/list": Ask(["simple-prompt", "args-prompt", "completable-prompt"]),
    "prompts/get": Ask("What's weather in Oslo?", {"name": "args-prompt", "arguments": {"city": "Oslo"}}),
    "completion/complete": Ask(
        ["Sales", "Support"],
        {"prompt": "completable-prompt", "argument": {"name": "department", "value": "S"}},
    ),
    "elicitation": Ask(
        "- Name: Ada",
        {"name": "trigger-elicitation-request", "arguments": {}, "answer": {"name": "Ada", "check": True}},
    ),
    "sampling": Ask(
        "cornflower blue",
        {
            "name": "trigger-sampling-request",
            "arguments": {"prompt": "Name a colour", "maxTokens": 20},
            "answer": "cornflower blue",
        },
    ),
    # These two tools toggle: of two calls one starts, with a message at once, and the other stops.
    "logging": Ask("message", {"name": "toggle-simulated-logging", "arguments": {}, "times": 2}),
    "resources/updated": Ask(
        ["demo://resource/static/document/features.md"],
        {
            "uri": "demo://resource/static/document/features.md",
            "name": "toggle-subscriber-updates",
            "arguments": {},
            "times": 2,
        },
    ),
}

_STEPS_OF_FASTMCP: Final = {
    "tools/list": Ask(["add", "count", "tell", "ask", "sample"]),
    "tools/call": call("5", "add", a=2, b=3),
    "progress": call([[1, 3], [2, 3], [3, 3]], "count", steps=3),
    "resources/list": Ask(["notes://today"]),
    "resources/templates/list": Ask(["notes://of/{name}"]),
    "resources/read": Ask("A note of Ada.", {"uri": "notes://of/Ada"}),
    "prompts/list": Ask(["greet"]),
    "prompts/get": Ask("Say hello to Ada.", {"name": "greet", "arguments": {"name": "Ada"}}),
    "elicitation": Ask("you are Ada", {"name": "ask", "arguments": {}, "answer": {"value": "Ada"}}),
    "sampling": Ask("cornflower blue", {"name": "sample", "arguments": {}, "answer": "cornflower blue"}),
    "logging": Ask("a word to the log", {"name": "tell", "arguments": {}, "times": 1}),
}
_STEPS_OF_FASTMCP3: Final = {**_STEPS_OF_FASTMCP, "tools/list_changed": call(["tools"], "grow")}
_STEPS_OF_FASTMCP4: Final = {
    **_STEPS_OF_FASTMCP,
    "completion/complete": Ask(["Ada", "Alan"], {"prompt": "greet", "argument": {"name": "name", "value": "A"}}),
}

_STEPS_OF_TYPESCRIPT: Final = {
    **_STEPS_OF_FASTMCP4,
    "tools/list_changed": call(["tools"], "grow"),
    "resources/updated": Ask(["notes://today"], {"uri": "notes://today", "name": "touch", "arguments": {}, "times": 1}),
}

_FASTMCP_ENV: Final = {"FASTMCP_CHECK_FOR_UPDATES": "off"}
_FASTMCP3: Final = (str(LEGACY_PYTHON), str(HERE / "servers" / "fastmcp3.py"))
_FASTMCP4: Final = (str(MODERN_PYTHON), str(HERE / "servers" / "fastmcp4.py"))
_FASTMCP3_PACKAGE: Final = Package("fastmcp", LEGACY_PYTHON)
_FASTMCP4_PACKAGE: Final = Package("fastmcp", MODERN_PYTHON)
_TYPESCRIPT: Final = (str(NODE), str(HERE / "servers" / "typescript2.mjs"))
_TYPESCRIPT_PACKAGE: Final = Package("@modelcontextprotocol/server")
_EVERYTHING: Final = Package("@modelcontextprotocol/server-everything")
_E2E_PYTHON: Final = E2E / ".venv" / "bin"

_REFERENCES: Final = E2E.parent / "tests" / "conformance" / "servers"
_WATCHED: Final = "test://watched-resource"
_STEPS_OF_REFERENCES: Final = {
    "tools/list": Ask(["test_simple_text", "test_tool_with_progress", "test_x_mcp_header"]),
    # A modern client sends this argument as a header too.
    "tools/call": call("region=north", "test_x_mcp_header", region="north"),
    "progress": call([[0, 100], [50, 100], [100, 100]], "test_tool_with_progress"),
    "resources/list": Ask(["test://static-text", _WATCHED]),
    "resources/templates/list": Ask(["test://template/{id}/data"]),
    "resources/read": Ask("Data for ID: 7", {"uri": "test://template/7/data"}),
    "prompts/list": Ask(["test_simple_prompt", "test_prompt_with_arguments"]),
    "prompts/get": Ask(
        "arg1='one', arg2='two'",
        {"name": "test_prompt_with_arguments", "arguments": {"arg1": "one", "arg2": "two"}},
    ),
    "completion/complete": Ask(
        ["paris", "park", "party"],
        {"prompt": "test_prompt_with_arguments", "argument": {"name": "arg1", "value": "par"}},
    ),
    "elicitation": Ask(
        "ada@example.org",
        {
            "name": "test_elicitation",
            "arguments": {"message": "Who are you?"},
            "answer": {"username": "Ada", "email": "ada@example.org"},
        },
    ),
    "sampling": Ask(
        "cornflower blue",
        {"name": "test_sampling", "arguments": {"prompt": "Name a colour"}, "answer": "cornflower blue"},
    ),
    "logging": Ask("Tool execution started", {"name": "test_tool_with_logging", "arguments": {}, "times": 1}),
    "tools/list_changed": call(["tools"], "test_trigger_tool_change"),
    "resources/updated": Ask(
        [_WATCHED], {"uri": _WATCHED, "name": "touch_watched_resource", "arguments": {}, "times": 1}
    ),
}


def _reference(era: str, python: Path) -> Iterator[Upstream]:
    """A reference server of the conformance suite, over stdio and over HTTP."""
    program = _REFERENCES / f"{era}.py"
    if program.is_file():
        command = (str(python), str(program))
        package = Package("mcp", python)
        yield Upstream(f"reference {era}, stdio", package, command, _STEPS_OF_REFERENCES)
        yield Upstream(f"reference {era}, HTTP", package, (*command, "--port", "{port}"), _STEPS_OF_REFERENCES, "http")


UPSTREAMS: Final = (
    Upstream("everything, stdio", _EVERYTHING, _npm("everything"), _STEPS_OF_EVERYTHING),
    Upstream("everything, HTTP", _EVERYTHING, _npm("everything", "streamableHttp"), _STEPS_OF_EVERYTHING, "http"),
    Upstream("everything, SSE", _EVERYTHING, _npm("everything", "sse"), _STEPS_OF_EVERYTHING, "sse", path="/sse"),
    Upstream("FastMCP 3, stdio", _FASTMCP3_PACKAGE, _FASTMCP3, _STEPS_OF_FASTMCP3, env=_FASTMCP_ENV),
    Upstream(
        "FastMCP 3, HTTP", _FASTMCP3_PACKAGE, (*_FASTMCP3, "{port}"), _STEPS_OF_FASTMCP3, "http", env=_FASTMCP_ENV
    ),
    Upstream("FastMCP 4, stdio", _FASTMCP4_PACKAGE, _FASTMCP4, _STEPS_OF_FASTMCP4, env=_FASTMCP_ENV),
    Upstream(
        "FastMCP 4, HTTP", _FASTMCP4_PACKAGE, (*_FASTMCP4, "{port}"), _STEPS_OF_FASTMCP4, "http", env=_FASTMCP_ENV
    ),
    Upstream("TypeScript 2, stdio", _TYPESCRIPT_PACKAGE, _TYPESCRIPT, _STEPS_OF_TYPESCRIPT),
    Upstream("TypeScript 2, HTTP", _TYPESCRIPT_PACKAGE, (*_TYPESCRIPT, "{port}"), _STEPS_OF_TYPESCRIPT, "http"),
    Upstream(
        "filesystem, stdio",
        Package("@modelcontextprotocol/server-filesystem"),
        _npm("filesystem", "{workspace}"),
        {
            "tools/list": Ask(["read_text_file", "write_file", "list_directory"]),
            "tools/call": call("first line", "read_text_file", path="{workspace}/hello.txt"),
        },
    ),
    Upstream(
        "memory, stdio",
        Package("@modelcontextprotocol/server-memory"),
        _npm("memory"),
        {
            "tools/list": Ask(["create_entities", "read_graph", "search_nodes"]),
            "tools/call": call("wrote the first program", "search_nodes", query="Ada"),
            "resources/list": Ask(["memory://knowledge-graph"]),
            "resources/read": Ask("wrote the first program", {"uri": "memory://knowledge-graph"}),
        },
        env={"MEMORY_FILE_PATH": "{workspace}/memory.jsonl"},
    ),
    Upstream(
        "sequential-thinking, stdio",
        Package("@modelcontextprotocol/server-sequential-thinking"),
        _npm("sequential-thinking"),
        {
            "tools/list": Ask(["sequentialthinking"]),
            "tools/call": call(
                '"totalThoughts": 1',
                "sequentialthinking",
                thought="It is one.",
                nextThoughtNeeded=False,
                thoughtNumber=1,
                totalThoughts=1,
            ),
        },
    ),
    Upstream(
        "time, stdio",
        Package("mcp-server-time", _E2E_PYTHON / "python"),
        (str(_E2E_PYTHON / "mcp-server-time"), "--local-timezone", "UTC"),
        {
            "tools/list": Ask(["convert_time", "get_current_time"]),
            "tools/call": call(
                "+9.0h", "convert_time", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo"
            ),
        },
    ),
    Upstream(
        "git, stdio",
        Package("mcp-server-git", _E2E_PYTHON / "python"),
        (str(_E2E_PYTHON / "mcp-server-git"),),
        {
            "tools/list": Ask(["git_log", "git_status", "git_diff"]),
            "tools/call": call("The first commit", "git_log", repo_path="{workspace}/repository"),
        },
    ),
    Upstream(
        "fetch, stdio",
        Package("mcp-server-fetch", MODERN_PYTHON),
        (str(MODERN_PYTHON.parent / "mcp-server-fetch"), "--allow-private-ips"),
        {
            "tools/list": Ask(["fetch"]),
            "tools/call": call("A page for the matrix", "fetch", url="{page}"),
            "prompts/list": Ask(["fetch"]),
            "prompts/get": Ask("A page for the matrix", {"name": "fetch", "arguments": {"url": "{page}"}}),
        },
    ),
    *_reference("legacy", LEGACY_PYTHON),
    *_reference("modern", WORKSPACE_PYTHON),
)
