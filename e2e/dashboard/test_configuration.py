"""The page Configuration: the file, errors at their lines, the difference before it is applied, applying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import expect


@pytest.fixture
def own(launcher: Any) -> Iterator[Any]:
    """A gateway whose file a test may change."""
    port = launcher.free_port()
    config = launcher.write({"port": port, "timeout": 30, "upstreams": []})
    text = config.read_text().replace("timeout = 30", "# seconds, agreed with the team\ntimeout = 30")
    config.write_text(text)
    return launcher.start(config, port, ready="/healthz")


def edit(seen: Any, old: str, new: str) -> None:
    field = seen.page.get_by_role("textbox", name="Configuration file")
    text = field.input_value()
    assert old in text
    field.fill(text.replace(old, new))


def test_a_mistake_is_shown_at_its_line_and_cannot_be_applied(
    visit: Callable[..., Any], own: Any, wait_for: Any
) -> None:
    seen = visit("configuration", of=own)
    edit(seen, "timeout = 30", 'timeout = "long"')
    line = 1 + own.config.read_text().splitlines().index("timeout = 30")
    link = seen.page.get_by_role("button", name=f"Line {line}")
    expect(link).to_be_visible()
    expect(seen.page.locator(".gutter .marked")).to_contain_text(str(line))
    expect(seen.page.get_by_role("button", name="Review and apply")).to_have_attribute("aria-disabled", "true")
    assert seen.axe() == []
    link.click()
    chosen = "(it => it.value?.slice(it.selectionStart, it.selectionEnd))(document.activeElement)"
    wait_for(lambda: seen.page.evaluate(chosen) == 'timeout = "long"', "the line is chosen")
    seen.page.get_by_role("button", name="Discard").click()
    seen.page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(seen.page.get_by_text("As in the file")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_difference_is_shown_before_it_is_applied(visit: Callable[..., Any], own: Any, scheme: str) -> None:
    before = own.config.read_text()
    seen = visit("configuration", of=own, scheme=scheme)
    edit(seen, "timeout = 30", "timeout = 20")
    seen.page.get_by_role("button", name="Review and apply").click()
    dialog = seen.page.get_by_role("dialog", name="Review the change")
    expect(dialog.get_by_text("30.0 -> 20.0")).to_be_visible()
    expect(dialog.locator(".removed")).to_contain_text("timeout = 30")
    expect(dialog.locator(".added")).to_contain_text("timeout = 20")
    assert seen.axe() == []
    assert own.config.read_text() == before
    dialog.get_by_role("button", name="Apply").click()
    expect(seen.page.get_by_text("1 change applied; generation 2 is in force")).to_be_visible()
    assert own.config.read_text() == before.replace("timeout = 30", "timeout = 20")
    assert own.rad("status")["generation"] == 2


def test_an_edit_elsewhere_is_not_overwritten(visit: Callable[..., Any], own: Any) -> None:
    seen = visit("configuration", of=own, expected=("409",))
    edit(seen, "timeout = 30", "timeout = 20")
    other = own.config.read_text().replace("timeout = 30", "timeout = 25")
    own.config.write_text(other)
    seen.page.get_by_role("button", name="Review and apply").click()
    seen.page.get_by_role("dialog").get_by_role("button", name="Apply").click()
    expect(seen.page.get_by_text("Not applied")).to_be_visible()
    assert own.config.read_text() == other


def test_what_stands_in_the_file_and_is_not_in_force_can_be_reloaded(visit: Callable[..., Any], own: Any) -> None:
    own.config.write_text(own.config.read_text().replace("timeout = 30", "timeout = 25"))
    seen = visit("configuration", of=own)
    seen.page.get_by_text("1 change in the file is not in force").click()
    seen.page.get_by_role("button", name="Reload").click()
    expect(seen.page.get_by_text("1 change applied; generation 2 is in force")).to_be_visible()
    expect(seen.page.get_by_text("1 change in the file is not in force")).to_have_count(0)


def test_a_file_that_cannot_be_written_is_read_only(visit: Callable[..., Any], own: Any) -> None:
    own.config.chmod(0o400)
    seen = visit("configuration", of=own)
    expect(seen.page.get_by_text("it is read-only")).to_be_visible()
    expect(seen.page.get_by_role("textbox", name="Configuration file")).not_to_be_editable()
    expect(seen.page.get_by_role("button", name="Review and apply")).to_have_count(0)
    assert seen.axe() == []
