"""The page Agents: principals, sessions, limits, and what they see."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect


def initialize(url: str, client: str) -> None:
    """Open a session of a legacy agent."""
    info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": client, "version": "3"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": info}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as response:
        assert response.headers["Mcp-Session-Id"]


def test_an_agent_of_the_modern_era_shows_its_calls_and_limits(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("agents")
    row = seen.page.locator("tr[data-at]").filter(has_text="claude-code@127.0.0.1")
    expect(row).to_contain_text("unverified")
    expect(row).to_contain_text("modern")
    expect(row.locator("td", has_text=re.compile(r"^claude-code \d"))).to_be_visible()
    seen.open_row(row, "claude-code")
    drawer = seen.page.get_by_role("dialog", name="claude-code@127.0.0.1")
    limits = drawer.get_by_role("region", name="Limits of this agent")
    expect(limits.get_by_role("row").filter(has_text="each other tool")).to_contain_text("6,000 of 6,000 per minute")
    assert seen.axe() == []
    drawer.get_by_role("link", name="its tools").click()
    expect(seen.page.get_by_role("heading", level=1, name="Tools")).to_be_visible()
    rows = seen.page.locator("tr[data-at]")
    seen.page.get_by_label("Filter").fill("get-")
    expect(rows.filter(has_text="get-sum")).to_have_count(1)
    expect(rows.filter(has_text="get-env")).to_have_count(0)
    assert seen.axe() == []
    all_see = seen.page.get_by_role("link", name="What all see")
    all_see.click()
    expect(all_see).to_have_count(0)
    seen.page.get_by_label("Filter").fill("get-")
    expect(rows.filter(has_text="get-env")).to_have_count(1)
    seen.page.go_back()
    expect(rows.filter(has_text="get-env")).to_have_count(0)
    expect(rows.filter(has_text="get-sum")).to_have_count(1)
    seen.page.go_back()
    drawer.get_by_role("link", name="Its calls").click()
    expect(seen.page.locator("tr[data-at]").first).to_contain_text("claude-code@127.0.0.1")


def test_limits_of_which_nothing_is_left_come_first(visit: Callable[..., Any], traffic: Any) -> None:
    def limit(what: str, remaining: int, wait: float = 0.0, of: str = "agent") -> dict[str, Any]:
        common = {"plugin": "security_ratelimit", "limit": 60, "per": "minute"}
        return {**common, "what": what, "remaining": remaining, "wait": wait, "of": of}

    found = {
        "agent": "claude-code@127.0.0.1",
        "verified": False,
        "limits": [limit("each other tool", 60), limit("add", 50, of="address"), limit("now", 0, wait=12)],
        "problems": ["the limits of the plugin other cannot be read: ValueError"],
    }
    seen = visit("overview")
    seen.page.route("**/admin/limits*", lambda route: route.fulfill(json=found))
    seen.go("agents")
    seen.open_row(seen.page.locator("tr[data-at]").filter(has_text="claude-code@127.0.0.1"), "claude-code")
    drawer = seen.page.get_by_role("dialog", name="claude-code@127.0.0.1")
    rows = drawer.get_by_role("region", name="Limits of this agent").locator("tbody tr")
    expect(rows).to_contain_text(["none of 60 per minute again in 12 s", "50 of 60 per minute", "60 of 60 per minute"])
    expect(rows.nth(1)).to_contain_text("its address")
    expect(drawer).to_contain_text("the limits of the plugin other cannot be read: ValueError")
    assert seen.axe() == []


def test_links_to_calls_in_flight_are_far_enough_apart(
    visit: Callable[..., Any], hold_calls: Callable[..., None]
) -> None:
    seen = visit("agents")
    hold_calls(3, "wait", client="patient", seconds=25)
    seen.open_row(seen.page.locator("tr[data-at]").filter(has_text="patient@127.0.0.1"), "patient")
    drawer = seen.page.get_by_role("dialog", name="patient@127.0.0.1")
    expect(drawer.get_by_role("link", name="wait")).to_have_count(3)
    assert seen.axe() == []


@pytest.mark.parametrize("right", ["change", "read"])
def test_a_session_is_ended_where_the_browser_may(visit: Callable[..., Any], gateway: Any, right: str) -> None:
    initialize(gateway.url, f"notebook-{right}")
    seen = visit("agents", right=right)
    seen.open_row(seen.page.locator("tr[data-at]").filter(has_text=f"notebook-{right} 3"), f"notebook-{right}")
    session = seen.page.get_by_role("dialog").get_by_role("listitem").filter(has_text=f"notebook-{right} 3")
    expect(session).to_contain_text("2025-06-18, 0 calls, idle for")
    end = session.get_by_role("button", name="End")
    if right == "read":
        expect(end).to_have_attribute("aria-disabled", "true")
        return
    end.click()
    seen.page.get_by_role("dialog", name="End this session?").get_by_role("button", name="End it").click()
    expect(session).to_have_count(0)
    assert f"notebook-{right} 3" not in [one["client"] for one in gateway.rad("sessions")["sessions"]]


def test_a_part_that_fails_leaves_the_others(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("overview", expected=("500",))
    seen.page.route("**/admin/sessions", lambda route: route.fulfill(status=500, json={"error": "it broke"}))
    seen.go("agents")
    expect(seen.page.get_by_role("alert")).to_contain_text("Sessions: it broke")
    expect(seen.page.locator("tr[data-at]").filter(has_text="claude-code@127.0.0.1")).to_be_visible()
