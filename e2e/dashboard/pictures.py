"""Makes the pictures of docs/dashboard.md: `make pictures`. Its name keeps it out of the tests."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "img"
SECONDS = 130
"""Traffic that the plots show."""


def save(seen: Any, name: str) -> None:
    seen.page.evaluate("document.fonts.ready")
    seen.page.wait_for_timeout(1500)
    seen.page.mouse.move(0, 0)
    seen.page.screenshot(path=FOLDER / f"dashboard-{name}.png")


def tidy(route: Route, places: dict[str, str]) -> None:
    """Let an answer name places that readers have, instead of those of this machine; a request the other way."""
    sent = route.request.post_data
    for path, shown in places.items():
        sent = sent and sent.replace(shown, path)
    found = route.fetch(post_data=sent)
    text = found.text()
    for path, shown in places.items():
        text = text.replace(path, shown)
    route.fulfill(response=found, body=text)


@pytest.mark.timeout(900)
def test_pictures(
    visit: Callable[..., Any], traffic: Any, gateway: Any, tools: Any, make_call: Callable[..., Any]
) -> None:
    light, dark = (visit("overview", scheme=scheme, size=(1440, 960)) for scheme in ("light", "dark"))
    places = {
        str(gateway.config.parents[1]): "/home/ada",
        str(ROOT / "e2e" / "servers"): "/opt/radium/servers",
        tools.server("everything"): "/usr/lib/server-everything/dist/index.js",
        str(tools.node): "/usr/bin/node",
        sys.executable: "/opt/radium/bin/python",
    }
    for seen in (light, dark):
        seen.page.route(re.compile("/admin/(status|config)"), lambda route: tidy(route, places))
        seen.page.reload()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        make_call("get-env")
        light.page.wait_for_timeout(9000)  # unlike `sleep`, lets pages be answered
    save(light, "overview")
    save(dark, "overview-dark")
    for place, name in [("servers", "servers"), ("servers/everything", "server"), ("plugins", "plugins")]:
        light.go(place)
        save(light, name)
    light.go("tools/tool/trigger-elicitation-request")
    light.page.get_by_role("button", name="Call it").click()
    light.page.get_by_label("name", exact=False).first.fill("Ada")
    save(light, "tool")
    for name in ("tools", "calls", "agents", "questions"):
        light.go(name)
        save(light, name)
    dark.go("calls?outcome=refused")
    dark.page.locator("tr[data-at='0']").click()
    save(dark, "call-dark")
    light.go("configuration")
    field = light.page.get_by_role("textbox", name="Configuration file")
    text = field.input_value()
    field.fill(text.replace("timeout = 30", 'timeout = "long"'))
    light.page.get_by_role("button", name="Line").first.wait_for()
    field.evaluate("it => (it.closest('.editor').scrollTop = 0)")
    save(light, "problems")
    field.fill(text.replace("timeout = 30", "timeout = 20"))
    light.page.get_by_text("Valid", exact=True).wait_for()
    light.page.get_by_role("button", name="Review and apply").click()
    light.page.get_by_role("dialog").wait_for()
    save(light, "review")
    light.page.keyboard.press("Escape")
    light.page.get_by_role("button", name="Discard").click()
    light.page.get_by_role("dialog").get_by_role("button", name="Discard").click()
