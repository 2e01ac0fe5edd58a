"""The page Plugins: order, settings, and what hooks cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect


def test_plugins_stand_in_the_order_of_the_file_with_their_cost(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("plugins")
    names = seen.page.locator("tr[data-at] .name")
    expect(names).to_have_text(
        ["security_ratelimit", "security_policy", "observe_metrics", "routing_priority", "conflict_autoprefix"]
    )
    row = seen.page.get_by_role("row").filter(has_text="security_policy")
    expect(row).to_contain_text(re.compile(r"\d+(\.\d)? µs"))


def test_the_details_have_the_settings_and_the_time_of_each_hook(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("plugins/security_policy")
    drawer = seen.page.get_by_role("dialog", name="security_policy")
    expect(drawer.get_by_role("row").filter(has_text="before_call")).to_be_visible()
    expect(drawer.get_by_role("region", name="Settings")).to_contain_text("the environment holds secrets")
