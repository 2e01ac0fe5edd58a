"""The page Calls: live and recent calls, filter, pause, and what happened to one."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

ROW = "tr[data-at]"


def test_calls_appear_as_they_end_and_a_filter_is_part_of_the_address(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("calls")
    expect(seen.page.locator(ROW).filter(has_text="search_notes").first).to_contain_text("claude-code@127.0.0.1")
    seen.page.get_by_label("Outcome").select_option("tool error")
    expect(seen.page.locator(ROW).first).to_contain_text("weather")
    expect(seen.page.locator(ROW).filter(has_text="ok")).to_have_count(0)
    expect(seen.page).to_have_url(re.compile("outcome=tool_error"))
    seen.go("calls?upstream=toolbox&name=add")
    expect(seen.page.locator(ROW).first).to_contain_text("add")
    expect(seen.page.locator(ROW).filter(has_text="word_count")).to_have_count(0)
    seen.page.get_by_role("button", name="any", exact=True).click()
    expect(seen.page.locator(ROW).filter(has_text="word_count").first).to_be_visible()


def test_a_pause_holds_the_list_and_counts_what_comes(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("calls")
    expect(seen.page.locator(ROW).first).to_be_visible()
    seen.page.get_by_role("button", name="Pause").click()
    expect(seen.page.get_by_role("button", name="Continue")).to_be_visible()
    shown = seen.page.locator("tbody").inner_text()
    expect(seen.page.get_by_text(re.compile(r"Paused at .*, \d+ new calls"))).to_be_visible()
    assert seen.page.locator("tbody").inner_text() == shown
    assert seen.axe() == []
    seen.page.get_by_role("button", name="Continue").click()
    expect(seen.page.get_by_text("Paused")).to_have_count(0)
    expect(seen.page.locator("tbody")).not_to_have_text(shown, use_inner_text=True)


def test_a_list_that_was_scrolled_stays_where_it_is(visit: Callable[..., Any], traffic: Any, wait_for: Any) -> None:
    seen = visit("calls")
    wait_for(lambda: seen.page.locator(ROW).count() > 30, "a list to scroll")
    frame = seen.page.get_by_role("region", name="calls, rows")
    frame.evaluate("it => (it.scrollTop = 400)")
    expect(seen.page.get_by_text(re.compile(r"Held while you scroll at .*, \d+ new call"))).to_be_visible()
    seen.page.get_by_role("button", name="Continue").click()
    expect(seen.page.get_by_text("Held while you scroll")).to_have_count(0)


def test_a_refused_call_shows_who_refused_it_and_why(
    visit: Callable[..., Any], traffic: Any, make_call: Callable[..., Any]
) -> None:
    seen = visit("calls?outcome=refused")
    make_call("get-env")
    row = seen.page.locator(ROW).filter(has_text="get-env").first
    expect(row).to_contain_text("security_policy: no secrets")
    row.click()
    drawer = seen.page.get_by_role("dialog", name="get-env")
    expect(drawer).to_contain_text("the environment holds secrets")
    expect(drawer.get_by_role("listitem").filter(has_text="security_policy refused it")).to_contain_text("no secrets")
    expect(drawer).to_contain_text("nothing has left for a server")
    assert seen.axe() == []
    seen.page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)
    expect(seen.page).to_have_url(re.compile("/calls.outcome=refused"))


def test_a_call_shows_where_its_time_went(
    visit: Callable[..., Any], traffic: Any, make_call: Callable[..., Any]
) -> None:
    seen = visit("calls?name=wait&outcome=ok&agent=timed@127.0.0.1")
    seen.ready()
    make_call("wait", client="timed", seconds=1.2)
    row = seen.page.locator(ROW).filter(has_text=re.compile(r"wait.*[1-9]\.\d+ s"))
    row.click()
    drawer = seen.page.get_by_role("dialog", name="wait")
    expect(drawer).to_contain_text(re.compile(r"servers [1-9]\.\d+ s, .*plugins"))
    steps = drawer.get_by_role("listitem")
    expect(steps.filter(has_text="Sent to server reports")).to_contain_text(re.compile(r"[1-9]\.\d+ s"))
    expect(steps.filter(has_text="Server reports answered")).to_be_visible()
    expect(steps.filter(has_text="security_ratelimit")).to_contain_text("ran before_call")
    expect(steps.filter(has_text="security_policy")).to_have_count(2)
    assert seen.axe() == []


def test_a_call_in_flight_is_cancelled_where_the_browser_may(
    visit: Callable[..., Any], traffic: Any, make_call: Callable[..., Any]
) -> None:
    place = "calls?outcome=live&name=wait&agent=stopped@127.0.0.1"
    reader, seen = visit(place, right="read"), visit(place)
    answers: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: answers.append(make_call("wait", client="stopped", seconds=25)))
    waiting.start()
    for one in (reader, seen):
        one.page.locator(ROW).filter(has_text="wait").click()
    cancel = reader.page.get_by_role("dialog").get_by_role("button", name="Cancel")
    expect(cancel).to_have_attribute("aria-disabled", "true")
    drawer = seen.page.get_by_role("dialog", name="wait")
    drawer.get_by_role("button", name="Cancel").click()
    seen.page.get_by_role("dialog", name="Cancel this call?").get_by_role("button", name="Cancel the call").click()
    expect(drawer.get_by_text("Ended: outcome unknown")).to_be_visible()
    waiting.join(30)
    assert "Outcome unknown" in str(answers[0])


def test_ten_thousand_calls_a_minute_cost_a_bounded_page(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("calls")
    expect(seen.page.locator(ROW).first).to_be_visible()
    rows, rate = seen.page.evaluate(
        """async () => {
          const { store } = await import("/ui/lib/store.js");
          let seq = 1e12;
          let renders = 0;
          const began = performance.now();
          const leave = store.subscribe(() => (renders += 1));
          const one = () => ({ seq: seq++, id: `x${seq}`, method: "tools/call", name: "add", agent: "a",
            verified: false, era: "modern", outcome: "ok", seconds: 0.01,
            started: Date.now() / 1000, decisions: [], bytes: 10 });
          for (let turn = 0; turn < 100; turn += 1) {
            store.recent = [...store.recent, ...Array.from({ length: 34 }, one)].slice(-2000);
            store.version += 1;
            store.changed();
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
          leave();
          return [document.querySelectorAll("tbody tr").length, renders / (performance.now() - began) * 1000];
        }"""
    )
    assert rows < 100
    assert rate <= 11
    expect(seen.page.get_by_text("2,000 rows")).to_be_visible()


def test_without_records_of_calls_the_live_ones_are_shown(visit: Callable[..., Any], traffic: Any) -> None:
    seen = visit("overview", expected=("404", "500"))
    seen.page.route("**/admin/calls/recent*", lambda route: route.fulfill(status=404, json={"error": "not found"}))
    seen.go("calls")
    expect(seen.page.get_by_role("alert").first).to_contain_text("Recent calls: not found")
    expect(seen.page.get_by_label("Outcome")).to_be_visible()
