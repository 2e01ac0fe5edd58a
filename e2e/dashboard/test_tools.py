"""The page Tools: who serves what, conflicts, profiles, definitions, and trying things out."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

E2E = Path(__file__).resolve().parents[1]


@pytest.fixture
def forms(launcher: Any) -> Any:
    """A gateway with a server whose tool needs a form, one that asks, and two profiles."""
    profiles = [{"name": "booking", "tools": ["book"]}, {"name": "rest", "tools": ["!book", "*"]}]
    upstreams = [
        {"name": name, "transport": "stdio", "command": sys.executable, "args": [str(E2E / "servers" / f"{name}.py")]}
        for name in ("forms", "asking")
    ]
    upstreams[1]["isolation"] = "call"
    return launcher.gateway({"upstreams": upstreams, "profiles": profiles}, upstreams=2)


def test_each_tool_shows_its_servers_in_order_and_how_conflicts_were_resolved(
    visit: Callable[..., Any], traffic: Any
) -> None:
    seen = visit("tools")
    row = seen.page.get_by_role("row").filter(has=seen.page.get_by_text("weather", exact=True)).first
    expect(row.locator(".tag").filter(has_text="weather")).to_have_text(["weather", "weather-backup"])
    seen.page.get_by_role("searchbox").fill("toolbox__lookup")
    expect(seen.page.locator("tr[data-at]")).to_have_count(1)
    expect(seen.page.locator("tr[data-at]")).to_contain_text("was lookup")
    seen.page.get_by_role("link", name="Conflicts").click()
    conflict = seen.page.get_by_role("row").filter(has_text="toolbox__lookup")
    expect(conflict.get_by_role("listitem").filter(has_text="toolbox__lookup")).to_contain_text("toolbox")
    for name in ("Resources", "Templates", "Prompts", "Replicas"):
        tab = seen.page.get_by_role("link", name=name)
        tab.click()
        expect(tab).to_have_attribute("aria-current", "page")
        expect(seen.page.locator("tr[data-at]").first).to_be_visible()
        assert seen.axe() == []


def test_a_form_of_the_schema_says_what_is_wrong_and_shows_the_raw_exchange(
    visit: Callable[..., Any], forms: Any
) -> None:
    seen = visit("tools/tool/book", of=forms)
    page = seen.page
    page.get_by_label("travelers").fill("ten")
    page.get_by_role("button", name="Call it").click()
    expect(page.get_by_text("not a whole number")).to_be_visible()
    expect(page.get_by_text("needed; an empty text can be given as JSON")).to_be_visible()
    expect(page.get_by_text("Nothing was sent yet")).to_be_visible()
    assert seen.axe() == []
    page.get_by_label("title").fill("North")
    page.get_by_label("travelers").fill("2")
    page.get_by_label("class").select_option("business")
    page.get_by_label("vegan").check()
    page.get_by_label("budget").fill("1.5e3")
    page.get_by_label("insured").select_option("true")
    page.get_by_role("button", name="Add").click()
    page.get_by_label("place").fill("Oslo")
    page.get_by_label("nights").fill("31")
    page.get_by_label("extras").fill('{"seat": "aisle"}')
    page.get_by_role("button", name="Call it").click()
    expect(page.get_by_text("at most 30")).to_be_visible()
    page.get_by_label("nights").fill("3")
    page.get_by_role("button", name="Call it").click()
    request = page.get_by_role("region", name="Request 1")
    expect(request).to_contain_text('"place": "Oslo"')
    expect(request).to_contain_text('"method": "tools/call"')
    content = page.get_by_role("region", name="Content 1.1")
    expect(content).to_contain_text(
        '"title":"North","travelers":2,"class":"business","meals":["vegan"],"budget":1500.0'
    )
    expect(content).to_contain_text('"stops":[{"place":"Oslo","nights":3}],"extras":{"seat":"aisle"}')
    expect(page.get_by_role("region", name="Response 1")).to_contain_text('"jsonrpc": "2.0"')
    assert seen.axe() == []
    page.get_by_role("link", name="What happened to this call").click()
    expect(page.get_by_role("dialog", name="book")).to_contain_text("operator|control-plane")


def test_what_a_form_cannot_do_is_written_as_json(visit: Callable[..., Any], forms: Any) -> None:
    seen = visit("tools/tool/book", of=forms)
    page = seen.page
    page.get_by_label("title").fill("South")
    page.get_by_role("button", name="JSON").click()
    field = page.get_by_label("Arguments as JSON")
    expect(field).to_have_value(re.compile(r'"title": "South",\s+"class": "economy",\s+"insured": false'))
    field.fill('{"journey": {"title": "South", "travelers": 1}, "other": 1}')
    page.get_by_role("button", name="Form").click()
    expect(page.get_by_text("the form has no field for other")).to_be_visible()
    field.fill("{")
    page.get_by_role("button", name="Call it").click()
    expect(page.get_by_text("not JSON")).to_be_visible()
    field.fill('{"journey": {"title": "South", "travelers": 99}}')
    page.get_by_role("button", name="Call it").click()
    expect(page.locator(".round summary")).to_contain_text("tool error")
    expect(page.locator(".round summary")).to_be_focused()  # before another field gets the focus
    field.fill('{"journey": {"title": "South", "travelers": 1}}')
    page.get_by_role("button", name="Form").click()
    expect(page.get_by_label("travelers")).to_have_value("1")


def test_a_question_that_comes_back_is_answered_with_the_next_request(visit: Callable[..., Any], forms: Any) -> None:
    seen = visit("tools/tool/consent", of=forms)
    page = seen.page
    page.get_by_label("subject").fill("cookies")
    page.get_by_role("button", name="Call it").click()
    asked = page.get_by_role("region", name="It asks something")
    expect(asked).to_contain_text("Do you agree to cookies?")
    assert seen.axe() == []
    asked.get_by_role("button", name="Answer").click()
    expect(asked.get_by_text("needed", exact=True)).to_be_visible()
    asked.get_by_label("agreed").select_option("true")
    asked.get_by_label("name").fill("Ann")
    asked.get_by_role("button", name="Answer").click()
    expect(page.get_by_role("region", name="Content 2.1")).to_have_text("Ann: True")
    expect(page.get_by_role("region", name="Request 2")).to_contain_text('"requestState"')
    expect(asked).to_have_count(0)
    page.get_by_role("button", name="Call it").click()
    asked.get_by_role("button", name="Decline").click()
    expect(page.get_by_role("region", name="Content 2.1")).to_have_text("no: decline")


def test_a_profile_shows_what_its_agents_see(visit: Callable[..., Any], forms: Any) -> None:
    seen = visit("tools", of=forms)
    rows = seen.page.locator("tr[data-at]")
    expect(rows).to_have_count(2)
    seen.page.get_by_label("Profile").select_option("booking")
    expect(rows).to_have_count(1)
    rows.first.click()
    expect(seen.page.get_by_role("heading", level=1, name="book")).to_be_focused()
    seen.go("tools/tool/consent?profile=booking")
    expect(seen.page.get_by_text("Agents see nothing of this name")).to_be_visible()


def test_resources_templates_and_prompts_are_tried_out_too(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("tools?show=prompt&q=explain")
    seen.page.locator("tr[data-at='0']").click()
    seen.page.get_by_label("term").fill("gateway")
    seen.page.get_by_role("button", name="Get it").click()
    expect(seen.page.get_by_role("region", name="Content 1.1")).to_contain_text("Explain to a newcomer")
    seen.go("tools?show=resource&q=glossary")
    seen.page.locator("tr[data-at='0']").click()
    seen.page.get_by_role("button", name="Read it").click()
    expect(seen.page.get_by_role("region", name="Content 1.1")).to_contain_text("**agent**")
    seen.go("tools?show=template&q=glossary")
    seen.page.locator("tr[data-at='0']").click()
    seen.page.get_by_label("term").fill("agent")
    seen.page.get_by_role("button", name="Read it").click()
    expect(seen.page.get_by_role("region", name="Request 1")).to_contain_text("toolbox://glossary/agent")


def test_a_browser_that_may_only_read_tries_nothing_out(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("tools/tool/add", right="read")
    expect(seen.page.get_by_role("button", name="Call it")).to_have_attribute("aria-disabled", "true")
    assert seen.axe() == []


def test_texts_of_a_hostile_server_stay_texts(visit: Callable[..., Any], launcher: Any) -> None:
    server = {"transport": "stdio", "command": sys.executable, "args": [str(E2E / "servers" / "hostile.py")]}
    seen = visit("tools", of=launcher.gateway({"upstreams": [{"name": "odd", **server}]}, upstreams=1))
    expect(seen.page.locator("tr[data-at='0']")).to_contain_text("<img src=x onerror=alert(1)>⟨U+202E⟩txt.exe")
    seen.page.locator("tr[data-at='0']").click()
    seen.page.get_by_role("button", name="Call it").click()
    expect(seen.page.get_by_role("region", name="Content 1.1")).to_contain_text("⟨U+202E⟩txt.exe⟨U+200B⟩")
    assert "\u202e" not in seen.page.content()
    assert seen.page.locator("img[src='x']").count() == 0


def test_a_gateway_that_cannot_try_requests_out_says_so(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("tools/tool/now", expected=("404",))
    seen.page.route("**/admin/try", lambda route: route.fulfill(status=404, json={"error": "not found"}))
    seen.page.get_by_role("button", name="Call it").click()
    expect(seen.page.get_by_text("This gateway cannot try requests out.")).to_be_visible()
