"""The page Servers: states, what one server says, and what is done with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.login_kit import Served


def test_every_server_shows_its_state_era_transport_and_lists(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("servers")
    row = seen.page.get_by_role("row").filter(has_text="weather-backup")
    for text in ("healthy", "http", "modern", "current"):
        expect(row).to_contain_text(text)
    expect(seen.page.get_by_role("row").filter(has_text="everything")).to_contain_text("legacy")
    expect(seen.page.get_by_role("row").filter(has_text="archive")).to_contain_text("disabled")
    expect(seen.page.get_by_role("row").filter(has_text="tracker")).to_contain_text("down")
    seen.page.get_by_label("State").select_option("With trouble")
    expect(seen.page.locator("tr[data-at]")).to_have_count(1)


def test_columns_sort(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("servers")
    header = seen.page.get_by_role("columnheader", name="Tools")
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    expect(seen.page.locator("tr[data-at='0']")).to_contain_text("everything")


def test_the_details_have_plots_facts_and_what_the_child_wrote(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("servers/everything")
    drawer = seen.page.get_by_role("dialog", name="everything")
    expect(drawer.locator(".plot canvas")).to_have_count(2)
    expect(drawer.get_by_text("legacy (2025-11-25)")).to_be_visible()
    expect(drawer.get_by_role("region", name="Standard error")).to_contain_text("Starting default (STDIO) server")


def test_a_server_is_restarted(visit: Callable[..., Any], gateway: Any, wait_for: Any) -> None:
    before = gateway.upstream("everything")["connects"]
    seen = visit("servers/everything")
    # While a call is in flight, the page asks before it does so.
    asked = seen.page.get_by_role("dialog", name="Reconnect everything?")
    seen.page.add_locator_handler(asked, lambda it: it.get_by_role("button", name="Reconnect").click())
    seen.page.get_by_role("button", name="Restart").click()
    expect(seen.page.get_by_text("everything: connecting again")).to_be_visible()
    wait_for(lambda: gateway.upstream("everything")["connects"] > before, "everything is connected again")
    wait_for(lambda: gateway.upstream("everything")["state"] == "healthy", "everything is healthy")


def test_a_server_is_drained_and_takes_calls_again(
    visit: Callable[..., Any], gateway: Any, make_call: Callable[..., Any]
) -> None:
    seen = visit("servers/reports")
    drawer = seen.page.get_by_role("dialog", name="reports")
    drawer.get_by_role("button", name="Drain").click()
    expect(drawer.get_by_text("drained", exact=True)).to_be_visible()
    assert "waited" not in str(make_call("wait", seconds=0))
    drawer.get_by_role("button", name="Resume").click()
    expect(drawer.get_by_text("healthy", exact=True)).to_be_visible()
    assert "waited" in str(make_call("wait", seconds=0))


def test_a_server_is_disabled_in_the_file_and_enabled_again(visit: Callable[..., Any], gateway: Any) -> None:
    seen = visit("servers/everything")
    seen.page.get_by_role("button", name="Disable").click()
    seen.page.get_by_role("dialog", name="Disable everything?").get_by_role("button", name="Disable").click()
    drawer = seen.page.get_by_role("dialog", name="everything")
    expect(drawer.get_by_text("disabled", exact=True)).to_be_visible()
    assert "enabled = false" in gateway.config.read_text().partition('name = "everything"')[2].partition("[[")[0]
    drawer.get_by_role("button", name="Enable").click()
    expect(drawer.get_by_text("healthy", exact=True)).to_be_visible(timeout=60_000)  # a child starts


@pytest.fixture(scope="module")
def protected(session_launcher: Any) -> Iterator[Any]:
    """A gateway over a server at which its operator logs in, one at which each user does, and one with credentials."""
    served = Served()
    credentials = {"issuer": served.tracker.origin, "client_id": "gateway", "client_secret": "hidden-client-secret"}
    auth = {
        "operator": {"grant": "authorization_code"},
        "users": {"grant": "authorization_code", "identity": "user"},
        "machine": {"grant": "client_credentials", **credentials},
    }
    upstream = {"transport": "http", "url": f"{served.tracker.origin}/mcp", "health_check_interval": 0.5}
    upstreams = [{"name": name, **upstream, "auth": it} for name, it in auth.items()]
    port = session_launcher.free_port()
    config = session_launcher.write({"port": port, "upstreams": upstreams}, name="protected")
    found = session_launcher.start(config, port, name="protected")
    yield found
    served.close()


def test_a_login_is_due_where_the_operator_has_to_log_in(
    visit: Callable[..., Any], protected: Any, wait_for: Any
) -> None:
    seen = visit("overview", of=protected)
    wait_for(lambda: protected.upstream("operator")["state"] == "needs_login", "the login is due")
    wait_for(lambda: protected.upstream("users")["state"] == "healthy", "users are served")
    due = seen.page.get_by_role("region", name="Needs attention").get_by_role("listitem").filter(has_text="Login due")
    expect(due).to_have_count(1)
    expect(due).to_contain_text("operator")
    seen.go("servers/users")
    drawer = seen.page.get_by_role("dialog", name="users")
    expect(drawer).to_contain_text("0 users logged in")
    expect(drawer.get_by_text("Tokens of users")).to_be_visible()
    expect(drawer.get_by_text("Login due")).to_have_count(0)
    seen.go("servers/operator")
    expect(seen.page.get_by_role("dialog", name="operator")).to_contain_text("rad mcp proxy login operator")
    assert seen.axe() == []


def test_the_details_say_when_the_access_token_ends(visit: Callable[..., Any], protected: Any, wait_for: Any) -> None:
    seen = visit("servers/machine", of=protected)
    wait_for(lambda: protected.upstream("machine")["state"] == "healthy", "there is a token")
    expect(seen.page.get_by_role("dialog", name="machine")).to_contain_text(re.compile(r"ends in 5\d min"))
    expect(seen.page.get_by_role("dialog", name="machine")).to_contain_text("renewed 1 time")
