"""What surrounds all pages: signing in, rights, themes, keyboard, narrow screens, accessibility, lost connections."""

from __future__ import annotations

import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Route, expect

E2E = Path(__file__).resolve().parents[1]
ME = "fetch('/admin/me', { headers: { 'Radium-Page-Key': localStorage['radium.page-key'] } }).then((it) => it.status)"
PAGES = ["overview", "servers", "tools", "calls", "agents", "questions", "plugins", "configuration"]


@pytest.mark.parametrize(
    "place", [*PAGES, "servers/toolbox", "tools/tool/add", "tools?show=conflicts", "plugins/security_policy"]
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Callable[..., Any], traffic: Any, place: str, scheme: str) -> None:
    seen = visit(place, scheme=scheme)
    if place in ("servers/toolbox", "plugins/security_policy"):
        expect(seen.page.get_by_role("dialog")).to_be_visible()
    assert seen.axe() == []


@pytest.mark.parametrize("place", PAGES)
def test_a_narrow_screen_shows_every_page_without_scrolling_sideways(
    visit: Callable[..., Any], traffic: Any, place: str
) -> None:
    seen = visit(place, size=(360, 740))
    seen.ready()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert seen.axe() == []
    seen.page.get_by_role("button", name="Menu").click()
    seen.page.get_by_role("link", name="Servers", exact=True).click()
    expect(seen.page.get_by_role("heading", level=1, name="Servers")).to_be_visible()
    expect(seen.page.get_by_role("button", name="Menu")).to_have_attribute("aria-expanded", "false")


def test_a_page_does_not_scroll_sideways_before_its_plots_are_drawn_again(
    visit: Callable[..., Any], traffic: Any
) -> None:
    """The browser reports the new size of a plot after it has laid out the page. Here it never does."""
    seen = visit("overview")
    seen.page.add_init_script("window.ResizeObserver = class { observe() {} unobserve() {} disconnect() {} }")
    seen.page.reload()
    seen.ready()
    expect(seen.page.locator(".uplot").first).to_be_visible()
    seen.resize(360, 740)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_a_cookie_the_page_names_the_command(visit: Callable[..., Any]) -> None:
    seen = visit("overview", right="none", expected=("401",))
    expect(seen.page.get_by_role("heading", name="This browser is not signed in")).to_be_visible()
    expect(seen.page.get_by_text("rad mcp proxy ui", exact=True)).to_be_visible()
    assert seen.axe() == []


def test_who_signs_out_has_no_session_any_more(visit: Callable[..., Any]) -> None:
    seen = visit("overview", expected=("401",))
    seen.page.get_by_role("button", name="Sign out").click()
    expect(seen.page.get_by_role("heading", name="This browser is not signed in")).to_be_visible()
    with seen.page.expect_response("**/admin/me"):
        seen.page.get_by_role("button", name="Try again").click()
    expect(seen.page.get_by_role("heading", name="This browser is not signed in")).to_be_visible()
    assert seen.page.evaluate(ME) == 401


def test_a_server_on_another_port_gets_the_cookie_and_no_session(visit: Callable[..., Any], launcher: Any) -> None:
    seen = visit("overview")
    assert seen.page.evaluate(ME) == 200
    heads: list[Any] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heads.append(self.headers)
            self.send_error(404)

        def log_message(self, *_: Any) -> None: ...

    # Browsers open connections in advance, and send nothing over them.
    with ThreadingHTTPServer(("127.0.0.1", launcher.free_port()), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page = seen.page.context.new_page()
        page.goto(f"http://127.0.0.1:{other.server_port}/")
        assert page.evaluate("Object.keys(localStorage)") == []
        page.close()
        other.shutdown()
    assert f"radium-{urlsplit(seen.base).port}=" in heads[0]["Cookie"]
    headers = {"Cookie": heads[0]["Cookie"], "Sec-Fetch-Site": "same-origin"}
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(urllib.request.Request(f"{seen.base}/admin/me", headers=headers))


def test_a_browser_that_may_only_read_cannot_use_what_changes(visit: Callable[..., Any]) -> None:
    seen = visit("servers/toolbox", right="read")
    expect(seen.page.get_by_text("read only", exact=True)).to_be_visible()
    for name in ("Restart", "Disable"):
        expect(seen.page.get_by_role("button", name=name)).to_have_attribute("aria-disabled", "true")
    seen.page.get_by_role("button", name="Disable").click(force=True)
    expect(seen.page.get_by_role("dialog")).to_have_count(1)
    seen.go("configuration")
    expect(seen.page.get_by_role("textbox", name="Configuration file")).not_to_be_editable()


def test_the_theme_follows_the_system_until_one_is_chosen(visit: Callable[..., Any]) -> None:
    seen = visit("overview", scheme="dark")
    ground = seen.page.locator("html")
    dark = ground.evaluate("it => getComputedStyle(it).backgroundColor")
    seen.page.emulate_media(color_scheme="light")
    expect(ground).not_to_have_css("background-color", dark)
    seen.page.get_by_role("button", name="Theme: system").click()
    seen.page.get_by_role("button", name="Theme: light").click()
    expect(ground).to_have_css("background-color", dark)
    seen.page.reload()
    seen.page.get_by_role("button", name="Theme: dark").wait_for()
    expect(ground).to_have_css("background-color", dark)


def test_the_keyboard_reaches_everything(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("overview")
    page = seen.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.type("gs")  # with little time between the two
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
    page.keyboard.type("go")
    expect(page.get_by_role("heading", level=1, name="Servers")).to_be_visible()


def test_a_gateway_that_goes_and_comes_back(visit: Callable[..., Any], launcher: Any, wait_for: Any) -> None:
    control = launcher.free_port()
    port = launcher.free_port()
    config = launcher.write({"port": port, "control": {"port": control}, "upstreams": []})
    gateway = launcher.start(config, port, ready="/healthz")
    lost = ("ERR_CONNECTION_", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_SOCKET_NOT_CONNECTED")
    seen = visit("overview", of=gateway, expected=(*lost, "401", "503"))
    expect(seen.page.get_by_text("Live", exact=True)).to_be_visible()
    gateway.process.terminate()
    gateway.process.wait(60)
    expect(seen.page.get_by_text("The gateway does not answer")).to_be_visible()
    launcher.start(config, port, name="again", ready="/healthz")
    # Cookies end with the gateway that gave them.
    expect(seen.page.get_by_role("heading", name="This browser is not signed in")).to_be_visible()


def test_texts_of_servers_are_shown_and_never_obeyed(visit: Callable[..., Any], launcher: Any) -> None:
    server = {"transport": "stdio", "command": sys.executable, "args": [str(E2E / "servers" / "hostile.py")]}
    gateway = launcher.gateway({"upstreams": [{"name": "odd", **server}]}, upstreams=1)
    seen = visit("servers/odd", of=gateway)
    drawer = seen.page.get_by_role("dialog", name="odd")
    name = drawer.get_by_role("definition").filter(has_text="<img").inner_text()
    assert name.startswith("<img src=x onerror=alert(1)>⟨U+202E⟩txt.exe⟨U+200B⟩AAA")
    assert len(name) < 300
    written = drawer.get_by_role("region", name="Standard error")
    expect(written).to_contain_text("<img src=x onerror=alert(1)>")
    assert len(written.inner_text()) < 3000
    assert "\u202e" not in seen.page.content()
    assert seen.page.locator("img[src='x']").count() == 0


@pytest.fixture
def thousands(launcher: Any) -> Any:
    """A gateway with 3,000 servers."""
    many = [
        {"name": f"server-{at}", "transport": "http", "url": "http://127.0.0.1:9/mcp", "enabled": False}
        for at in range(3000)
    ]
    port = launcher.free_port()
    return launcher.start(launcher.write({"port": port, "upstreams": many}), port, ready="/healthz")


def test_a_list_stays_where_it_was_scrolled_as_soon_as_it_was_there(visit: Callable[..., Any], thousands: Any) -> None:
    seen = visit("plugins", of=thousands)
    place = seen.page.evaluate(
        """() => new Promise((resolve) => {
          const watch = new MutationObserver(() => {
            const frame = document.querySelector("[aria-label='servers, rows']");
            if (!frame) return;
            watch.disconnect();
            frame.scrollTop = 1000;
            setTimeout(() => resolve(frame.scrollTop), 500);
          });
          watch.observe(document.body, { childList: true, subtree: true });
          location.hash = "#/servers";
        })"""
    )
    assert place == 1000


def test_thousands_of_rows_stay_quick(visit: Callable[..., Any], thousands: Any) -> None:
    seen = visit("servers", of=thousands)
    expect(seen.page.get_by_text("3,000 rows")).to_be_visible()
    assert seen.page.locator("tbody tr").count() < 100
    frame = seen.page.get_by_role("region", name="servers, rows")
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
    renders, seconds = seen.page.evaluate(
        """async () => {
          const { store } = await import("/ui/lib/store.js");
          let renders = 0;
          const began = performance.now();
          const leave = store.subscribe(() => (renders += 1));
          for (let turn = 0; turn < 400; turn += 1) {
            store.changed();
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
          leave();
          return [renders, (performance.now() - began) / 1000];
        }"""
    )
    assert 1 <= renders <= 1 + seconds / 0.099  # timers of browsers count whole milliseconds


def test_a_lost_stream_of_events_is_resumed_after_the_last_one(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("servers")
    expect(seen.page.get_by_text("Live", exact=True)).to_be_visible()
    asked: list[str | None] = []

    def answer(route: Route) -> None:
        asked.append(route.request.headers.get("last-event-id"))
        if len(asked) == 1:
            body = 'id: 7\nevent: changes\ndata: {"events": []}\n\n'
            route.fulfill(status=200, content_type="text/event-stream", body=body)
        else:
            route.continue_()

    seen.page.route("**/admin/events*", answer)
    seen.page.reload()
    expect(seen.page.get_by_text("Live", exact=True)).to_be_visible()
    while len(asked) < 2:
        seen.page.wait_for_timeout(100)
    assert asked[:2] == [None, "7"]


HIDE = """
window.inBackground = true;
Object.defineProperty(document, "hidden", {get: () => window.inBackground});
"""
"""Makes a page one in the background; headless browsers show all."""


def test_pages_in_the_background_leave_connections_to_the_others(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("overview")
    expect(seen.page.get_by_text("Live", exact=True)).to_be_visible()
    hidden = []
    for _ in range(6):  # as many as a browser opens connections to one server
        hidden.append(seen.page.context.new_page())
        hidden[-1].add_init_script(HIDE)
        hidden[-1].goto(f"{seen.base}/ui/#/servers", wait_until="commit")
        expect(hidden[-1].get_by_text("Live", exact=True)).to_be_visible()
    seen.page.reload()
    expect(seen.page.get_by_text("Live", exact=True)).to_be_visible()
    with hidden[0].expect_request("**/admin/events*"):
        hidden[0].evaluate("window.inBackground = false; document.dispatchEvent(new Event('visibilitychange'))")
    expect(hidden[0].get_by_text("Live", exact=True)).to_be_visible()


def test_without_events_the_page_polls(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("overview", expected=("404",))
    seen.page.route("**/admin/events*", lambda route: route.fulfill(status=404, json={"error": "not found"}))
    seen.page.reload()
    expect(seen.page.get_by_text("Polling", exact=True)).to_be_visible()
    shown = seen.page.locator(".plot", has_text="Calls / s").locator("[data-value]")
    expect(shown).to_have_text(re.compile(r"^[1-9]"))


def test_an_endpoint_that_fails_does_not_take_the_page_with_it(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("plugins", expected=("500",))
    for place in ("questions", "tools", "calls/recent*"):
        seen.page.route(f"**/admin/{place}", lambda route: route.fulfill(status=500, json={"error": "it broke"}))
    seen.go("overview")
    queue = seen.page.get_by_role("region", name="Needs attention")
    expect(queue.get_by_role("listitem").filter(has_text="Server down")).to_be_visible()
    seen.page.route("**/admin/config", lambda route: route.fulfill(status=500, json={"error": "it broke"}))
    seen.go("configuration")
    expect(seen.page.get_by_role("alert")).to_contain_text("Configuration: it broke")
    seen.page.unroute("**/admin/config")
    seen.page.get_by_role("button", name="Try again").click()
    expect(seen.page.locator(".editor")).to_be_visible()
