"""The pages of plugins on the control plane: which are accepted."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway_core import Page, hookimpl
from gateway_core.errors import PluginError
from gateway_core.hooks import Chain
from gateway_core.testing import configured


def render(status: Mapping[str, Any]) -> bytes:
    return b"x"


class WithPages:
    def __init__(self, *pages: Any) -> None:
        self.pages = list(pages)

    @hookimpl
    def observe(self) -> None: ...


def chain(*plugins: Any) -> Chain:
    return Chain([configured(plugin, name=f"p{number}") for number, plugin in enumerate(plugins)])


def test_pages_are_found_by_path() -> None:
    found = chain(WithPages(Page("/metrics", render)), WithPages(), WithPages(Page("/a/b-c.json", render))).pages
    assert {path: it.plugin for path, it in found.items()} == {"/metrics": "p0", "/a/b-c.json": "p2"}


@pytest.mark.parametrize("path", ["", "metrics", "/", "/metrics/", "/a//b", "/a b", "/..", "/a?b", "/%61", "/.hidden"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(PluginError, match=r"p0 cannot be used: its page has the path .*, which is none"):
        chain(WithPages(Page(path, render)))


@pytest.mark.parametrize("path", ["/healthz", "/admin/x", "/api", "/ui/x"])
def test_paths_of_the_gateway_are_reserved(path: str) -> None:
    with pytest.raises(PluginError, match="reserved"):
        chain(WithPages(Page(path, render)))


def test_two_plugins_cannot_have_one_page() -> None:
    with pytest.raises(PluginError, match="p1 cannot be used: has the page /metrics, and so has p0"):
        chain(WithPages(Page("/metrics", render)), WithPages(Page("/metrics", render)))


def test_what_is_no_page_is_refused() -> None:
    with pytest.raises(PluginError, match="must be of the class Page, not str"):
        chain(WithPages("/metrics"))
    with pytest.raises(PluginError, match="more than 20 pages"):
        chain(WithPages(*[Page(f"/p{number}", render) for number in range(21)]))


def test_a_token_is_not_printed() -> None:
    assert "hush" not in repr(Page("/metrics", render, token="hush"))
