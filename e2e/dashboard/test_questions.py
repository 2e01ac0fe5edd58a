"""The page Questions: what waits for people, and what an operator does about it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import ElicitResult
from playwright.sync_api import expect

E2E = Path(__file__).resolve().parents[1]
OPERATOR = "operator|control-plane"


@pytest.fixture
def parked(launcher: Any) -> Any:
    """A gateway with a server that asks the user of a call."""
    server = {"transport": "stdio", "command": sys.executable, "args": [str(E2E / "servers" / "asking.py")]}
    return launcher.gateway({"upstreams": [{"name": "asking", "isolation": "call", **server}]}, upstreams=1)


def ask(seen: Any, subject: str) -> None:
    """Try a call out that ends with a question, and leave the question open."""
    seen.go("tools/tool/consent")
    seen.page.get_by_label("subject").fill(subject)
    seen.page.get_by_role("button", name="Call it").click()
    expect(seen.page.get_by_role("region", name="It asks something")).to_contain_text(subject)


def test_a_parked_call_is_shown_and_cancelled(visit: Callable[..., Any], parked: Any) -> None:
    seen = visit("questions", of=parked)
    expect(seen.page.get_by_text("No question waits")).to_be_visible()
    ask(seen, "cookies")
    expect(seen.page.get_by_role("link", name="Questions")).to_contain_text("1")
    seen.go("questions")
    question = seen.page.get_by_role("listitem").filter(has_text="consent")
    expect(question).to_contain_text("Parked")
    expect(question).to_contain_text(OPERATOR)
    assert seen.axe() == []
    reader = visit("questions", of=parked, scheme="dark", right="read")
    expect(reader.page.get_by_role("button", name="Cancel the call")).to_have_attribute("aria-disabled", "true")
    assert reader.axe() == []
    question.get_by_role("link", name="consent").click()
    expect(seen.page.get_by_role("dialog", name="consent")).to_contain_text("A person was asked")
    seen.go("questions")
    question.get_by_role("button", name="Cancel the call").click()
    seen.page.get_by_role("dialog").get_by_role("button", name="Cancel the call").click()
    expect(seen.page.get_by_text("No question waits")).to_be_visible()


@pytest.fixture
def guarded(launcher: Any) -> Any:
    """A gateway that lets operators approve the calls of a tool."""
    server = {"transport": "stdio", "command": sys.executable, "args": ["-m", "gateway_core.demo.stdio_server"]}
    approval = {"name": "security_approval", "always": ["add"], "answer": "page", "approvers": [OPERATOR]}
    return launcher.gateway({"upstreams": [{"name": "demo", **server}], "plugins": [approval]}, upstreams=1)


def add(url: str, mode: str) -> str:
    """The text of a call of `add` by an agent whose client opens addresses; the error if it is refused."""

    async def opened(*_: Any) -> ElicitResult:
        return ElicitResult(action="accept")

    async def call() -> str:
        async with Client(url, mode=mode, elicitation_callback=opened, read_timeout_seconds=60) as client:
            try:
                return str((await client.call_tool("add", {"a": 1, "b": 2})).content[0].text)
            except MCPError as error:
                return error.message

    return asyncio.run(call())


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_an_operator_approves_and_denies(visit: Callable[..., Any], guarded: Any, mode: str) -> None:
    seen = visit("questions", of=guarded)
    for button, said in (("Approve", "3"), ("Deny", "the user declined it")):
        with ThreadPoolExecutor(1) as pool:
            agent = pool.submit(add, guarded.url, mode)
            text = seen.page.get_by_role("region", name="Question")
            expect(text).to_contain_text("Server: demo")
            expect(text).to_contain_text("Tool: add")
            expect(seen.page.get_by_role("listitem").filter(has_text="security_approval")).to_contain_text("Approval")
            assert seen.axe() == []
            reader = visit("questions", of=guarded, right="read")
            expect(reader.page.get_by_role("button", name=button)).to_have_attribute("aria-disabled", "true")
            seen.page.get_by_role("button", name=button).click()
            assert said in agent.result(timeout=60)
        expect(seen.page.get_by_text("No question waits")).to_be_visible()


def test_a_gateway_without_questions_says_so(visit: Callable[..., Any], parked: Any) -> None:
    seen = visit("servers", of=parked, expected=("404",))
    seen.page.route("**/admin/questions", lambda route: route.fulfill(status=404, json={"error": "not found"}))
    seen.page.reload()  # so that no answer of before is shown
    seen.go("questions")
    expect(seen.page.get_by_role("alert")).to_contain_text("Questions: not found")
