"""What surrounds all pages: signing in, rights, themes, keyboard, narrow screens, accessibility, lost connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

PAGES = ["overview", "servers", "plugins", "configuration"]


def ready(seen: Any) -> None:
    """Wait until nothing on the page is loading any more."""
    expect(seen.page.locator(".state.loading")).to_have_count(0)


@pytest.mark.parametrize("place", [*PAGES, "servers/toolbox", "plugins/security_policy"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Callable[..., Any], traffic: Any, place: str, scheme: str) -> None:
    seen = visit(place, scheme=scheme)
    ready(seen)
    assert seen.axe() == []


@pytest.mark.parametrize("place", PAGES)
def test_a_narrow_screen_shows_every_page_without_scrolling_sideways(
    visit: Callable[..., Any], traffic: Any, place: str
) -> None:
    seen = visit(place, size=(360, 740))
    ready(seen)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert seen.axe() == []
    seen.page.get_by_role("button", name="Menu").click()
    seen.page.get_by_role("link", name="Servers", exact=True).click()
    expect(seen.page.get_by_role("heading", level=1, name="Servers")).to_be_visible()
    expect(seen.page.get_by_role("button", name="Menu")).to_have_attribute("aria-expanded", "false")


def test_without_a_cookie_the_page_names_the_command(visit: Callable[..., Any]) -> None:
    seen = visit("overview", right="none", expected=("401",))
    expect(seen.page.get_by_role("heading", name="This browser is not signed in")).to_be_visible()
    expect(seen.page.get_by_text("rad mcp proxy ui", exact=True)).to_be_visible()
    assert seen.axe() == []


def test_a_browser_that_may_only_read_cannot_use_what_changes(visit: Callable[..., Any]) -> None:
    seen = visit("servers/toolbox", right="read")
    expect(seen.page.get_by_text("read only", exact=True)).to_be_visible()
    for name in ("Restart", "Disable"):
        expect(seen.page.get_by_role("button", name=name)).to_have_attribute("aria-disabled", "true")
    seen.page.get_by_role("button", name="Disable").click()
    expect(seen.page.get_by_role("dialog")).to_have_count(1)
    seen.go("configuration")
    expect(seen.page.get_by_role("textbox", name="Configuration file")).not_to_be_editable()


def test_the_theme_follows_the_system_until_one_is_chosen(visit: Callable[..., Any]) -> None:
    seen = visit("overview", scheme="dark")

    def ground() -> str:
        return str(seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    dark = ground()
    seen.page.emulate_media(color_scheme="light")
    light = ground()
    assert dark != light
    seen.page.get_by_role("button", name="Theme: system").click()
    seen.page.get_by_role("button", name="Theme: light").click()
    assert ground() == dark
    seen.page.reload()
    seen.page.get_by_role("button", name="Theme: dark").wait_for()
    assert ground() == dark


def test_the_keyboard_reaches_everything(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("overview")
    page = seen.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("s")
    expect(page.get_by_role("heading", level=1, name="Servers")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Filter servers")).to_be_focused()
    page.keyboard.type("weather")
    expect(page.get_by_role("row")).to_have_count(3)
    page.keyboard.press("?")  # a character of the field
    expect(page.get_by_role("searchbox")).to_have_value("weather?")
    page.keyboard.press("Backspace")
    first = page.locator("tr[data-at='0']")
    while not first.evaluate("it => it === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(page.locator("tr[data-at='1']")).to_be_focused()
    page.keyboard.press("Enter")
    drawer = page.get_by_role("dialog", name="weather-backup")
    expect(drawer).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)
    expect(page.locator("tr[data-at='1']")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    assert seen.axe() == []
    page.get_by_label("Shortcuts of single keys are on").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.get_by_role("heading", level=1, name="Servers")).to_be_visible()


def test_a_gateway_that_goes_and_comes_back(visit: Callable[..., Any], launcher: Any, wait_for: Any) -> None:
    control = launcher.free_port()
    port = launcher.free_port()
    config = launcher.write({"port": port, "control": {"port": control}, "upstreams": []})
    gateway = launcher.start(config, port, ready="/healthz")
    lost = ("ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET")
    seen = visit("overview", of=gateway, expected=(*lost, "401", "503"))
    expect(seen.page.get_by_text("Live", exact=True)).to_be_visible()
    gateway.process.terminate()
    gateway.process.wait(20)
    expect(seen.page.get_by_text("The gateway does not answer")).to_be_visible()
    launcher.start(config, port, name="again", ready="/healthz")
    # Cookies end with the gateway that gave them.
    expect(seen.page.get_by_role("heading", name="This browser is not signed in")).to_be_visible()


def test_texts_of_servers_are_shown_and_never_obeyed(visit: Callable[..., Any], launcher: Any) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202etxt.exe\u0007" + "A" * 5000
    upstream = {"name": "odd", "transport": "stdio", "command": f"./{hostile}"}
    port = launcher.free_port()
    gateway = launcher.start(launcher.write({"port": port, "upstreams": [upstream]}), port, ready="/healthz")
    seen = visit("overview", of=gateway)
    entry = seen.page.get_by_role("region", name="Needs attention").get_by_text("<img src=x onerror=alert(1)>").first
    expect(entry).to_be_visible()
    text = entry.inner_text()
    assert "⟨U+202E⟩" in text
    assert "\u202e" not in seen.page.content()
    assert len(text) < 500
    assert seen.page.locator("img[src='x']").count() == 0


def test_thousands_of_rows_stay_quick(visit: Callable[..., Any], launcher: Any) -> None:
    many = [
        {"name": f"server-{at}", "transport": "http", "url": "http://127.0.0.1:9/mcp", "enabled": False}
        for at in range(3000)
    ]
    port = launcher.free_port()
    gateway = launcher.start(launcher.write({"port": port, "upstreams": many}), port, ready="/healthz")
    seen = visit("servers", of=gateway)
    expect(seen.page.get_by_text("3,000 rows")).to_be_visible()
    assert seen.page.locator("tbody tr").count() < 100
    frame = seen.page.get_by_role("region", name="servers")
    frame.evaluate("it => it.scrollTop = it.scrollHeight")
    expect(seen.page.get_by_role("cell", name="server-2999", exact=True)).to_be_visible()
    assert seen.axe() == []
    seen.page.get_by_role("searchbox").fill("server-1234")
    expect(seen.page.get_by_text("1 row of 3,000")).to_be_visible()
    seen.page.get_by_role("searchbox").fill("")
    seen.page.get_by_role("button", name="Server", exact=True).click()
    seen.page.get_by_role("button", name="Server", exact=True).click()
    expect(seen.page.locator("tr[data-at='0']")).to_contain_text("server-2999")


def test_the_page_renders_at_most_ten_times_a_second(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("overview")
    expect(seen.page.get_by_text("Live", exact=True)).to_be_visible()
    renders = seen.page.evaluate(
        """async () => {
          const { store } = await import("/ui/lib/store.js");
          let renders = 0;
          const leave = store.subscribe(() => (renders += 1));
          for (let turn = 0; turn < 400; turn += 1) {
            store.changed();
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
          leave();
          return renders / 2;
        }"""
    )
    assert 2 <= renders <= 11
