"""The page Overview: figures of real traffic, and the queue of what needs attention."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect


def test_traffic_arrives_while_the_page_is_open(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("overview")
    expect(seen.page.get_by_text("Live", exact=True)).to_be_visible()
    calls = seen.page.locator(".figure", has=seen.page.get_by_text("Calls", exact=True)).locator(".value")
    expect(calls).to_have_text(re.compile(r"^[1-9]"))
    latency = seen.page.locator(".figure", has_text="Latency").locator(".value")
    expect(latency).to_have_text(re.compile(r"^[\d.]+ ms"))
    plots = seen.page.locator(".plot canvas")
    expect(plots).to_have_count(3)
    shown = seen.page.locator(".plot", has_text="Calls / s").locator("[data-value]")
    expect(shown).to_have_text(re.compile(r"^[1-9]"))


def test_the_queue_names_what_is_down_refused_and_in_conflict(
    visit: Callable[..., Any], traffic: Any, make_call: Callable[..., Any]
) -> None:
    assert "error" in make_call("get-env")
    seen = visit("overview")
    queue = seen.page.get_by_role("region", name="Needs attention")
    expect(queue.get_by_role("listitem").filter(has_text="Server down").filter(has_text="tracker")).to_be_visible()
    refused = queue.get_by_role("listitem").filter(has_text="Refused").filter(has_text="get-env")
    expect(refused).to_contain_text("by security_policy, rule no secrets")
    expect(queue.get_by_role("listitem").filter(has_text="conflict")).to_be_visible()
    queue.get_by_role("link", name="Server down tracker").click()
    expect(seen.page.get_by_role("dialog", name="tracker")).to_be_visible()


def test_the_servers_at_a_glance_lead_to_their_details(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("overview")
    row = seen.page.get_by_role("row").filter(has_text="toolbox")
    expect(row).to_contain_text("healthy")
    row.get_by_role("link").click()
    expect(seen.page.get_by_role("dialog", name="toolbox")).to_be_visible()
