"""Who is a replica of whom, why, and what people are told about it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_core.catalog.replicas import declared, undeclared
from gateway_core.config import ProxyConfig, UpstreamConfig


def proxy(*upstreams: dict[str, Any], **more: Any) -> ProxyConfig:
    made = tuple(
        UpstreamConfig(**{"name": name, "transport": "http" if "url" in one else "stdio", **one})
        for name, one in zip("abcdef", upstreams, strict=False)
    )
    return ProxyConfig(upstreams=made, **more)


HTTP = {"url": "http://localhost:8080/mcp"}


def test_the_founding_documents_example_is_a_primary_and_its_backup() -> None:
    found = declared(proxy(HTTP | {"priority": 1}, {"url": "http://localhost:8081/mcp", "priority": 2}))
    assert found == ["a and b are replicas of the tools that they offer alike, because each has a priority"]


def test_a_default_priority_is_no_intent() -> None:
    assert declared(proxy(HTTP | {"priority": 1}, HTTP)) == []


def test_a_group_says_who_belongs_together() -> None:
    found = declared(proxy(*({**HTTP, "group": group, "priority": 1} for group in "xyxy")))
    assert found == [
        'a and c are replicas of the tools that they offer alike, because they are in group "x"',
        'b and d are replicas of the tools that they offer alike, because they are in group "y"',
    ]


def test_declared_takes_groups_only_and_schema_takes_everything() -> None:
    both = [HTTP | {"priority": 1}, HTTP | {"priority": 2}]
    assert declared(proxy(*both, replicas="declared")) == []
    assert "all upstreams" in declared(proxy(*both, replicas="schema"))[0]


def stdio(command: str, *args: str, **more: Any) -> dict[str, Any]:
    return {"command": command, "args": args, **more}


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (stdio("npx", "-y", "@x/server-files", "/home"), stdio("npx", "-y", "@x/server-files", "/srv")),
        (stdio("/usr/bin/github-mcp", "stdio"), stdio("github-mcp", "stdio", env={"TOKEN": "2"})),
        (stdio("uvx", "mcp-server-git"), stdio("uv", "tool", "run", "mcp-server-git", "--repository", "x")),
        (stdio("python3", "-m", "server", "one"), stdio("python3", "-m", "server", "two")),
        (
            stdio("docker", "run", "--mount", "src=/a", "x/files:1"),
            stdio("docker", "run", "--mount", "src=/b", "x/files"),
        ),
        (stdio("npx", "-y", "@x/server-files@1.0"), stdio("cmd", "/c", "npx", "-y", "@x/server-files@latest")),
        (HTTP, HTTP | {"headers": {"Authorization": "Bearer 2"}}),
        ({"url": "https://x.example/mcp"}, {"url": "https://X.example/mcp?tenant=2"}),
        ({"url": "https://x.example/mcp?account=1"}, {"url": "https://x.example/mcp?account=2"}),
    ],
)
def test_a_pair_that_looks_as_if_it_were_meant_gets_advice(first: dict[str, Any], other: dict[str, Any]) -> None:
    found = undeclared(proxy(first, other))
    assert list(found) == [("a", "b")]
    assert 'group = "shared"' in found["a", "b"]
    assert "account" not in found["a", "b"], "arguments and addresses may hold secrets"
    assert not undeclared(proxy(first | {"group": "g"}, other | {"group": "g"}))


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (stdio("npx", "-y", "@x/server-files"), stdio("npx", "-y", "@x/server-git")),
        (stdio("docker", "run", "-e", "TOKEN", "x/files"), stdio("docker", "run", "-e", "TOKEN", "x/git")),
        (stdio("java", "-jar", "/srv/a.jar"), stdio("java", "-jar", "/srv/b.jar")),
        (stdio("uv", "--directory", "/srv", "run", "a.py"), stdio("uv", "--directory", "/srv", "run", "b.py")),
        (HTTP, {"url": "http://localhost:8081/mcp"}),
        (HTTP, stdio("x")),
    ],
)
def test_two_different_servers_get_none(first: dict[str, Any], other: dict[str, Any]) -> None:
    assert not undeclared(proxy(first, other))


def test_of_many_alike_each_is_compared_with_the_first() -> None:
    assert list(undeclared(proxy(*[stdio("x")] * 4))) == [("a", "b"), ("a", "c"), ("a", "d")]


def test_advice_is_bounded() -> None:
    upstreams = tuple(UpstreamConfig(name=f"u{number}", transport="stdio", command="x") for number in range(100))
    assert len(undeclared(ProxyConfig(upstreams=upstreams))) == 20
