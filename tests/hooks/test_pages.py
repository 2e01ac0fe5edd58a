"""The pages of plugins on the control plane: which are accepted; and what their limits leave an agent."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway_core import Allowance, Page, Principal, hookimpl
from gateway_core.errors import PluginError
from gateway_core.hooks import Chain
from gateway_core.hooks.pages import MAX_ALLOWANCES, MAX_COUNTED, allowances_of
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


class WithLimits:
    def __init__(self, given: Any) -> None:
        self.given = given

    @hookimpl
    def before_call(self, call: Any) -> None: ...

    def allowances(self, principal: Principal) -> Any:
        if isinstance(self.given, BaseException):
            raise self.given
        return [
            Allowance(f"{principal.id} {what}", 9, "day", 3) if isinstance(what, str) else what for what in self.given
        ]


def test_what_limits_leave_an_agent_comes_from_each_plugin_that_has_some() -> None:
    plugins = chain(WithLimits(["a", "b"]), WithPages(), WithLimits(["c"])).plugins
    found, problems = allowances_of(plugins, Principal("alice"))
    assert [(it.plugin, it.allowance.what, it.allowance.remaining) for it in found] == [
        ("p0", "alice a", 3),
        ("p0", "alice b", 3),
        ("p2", "alice c", 3),
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (ValueError("secret"), "ValueError"),
        (["a", 1], "one of them is a int"),
        (7, "TypeError"),
        ([Allowance(5, 9, "day", 3)], "the `what` of one of them is a int, not a text"),  # type: ignore[arg-type]
        ([Allowance("a", 9, None, 3)], "the `per` of one of them is a NoneType, not a text"),  # type: ignore[arg-type]
        ([Allowance("a", True, "day", 3)], "the `limit` of one of them is a bool, not a whole number"),
        ([Allowance("a", 9, "day", 2.5)], "the `remaining` of one of them is a float, not a whole number"),  # type: ignore[arg-type]
        ([Allowance("a", 10**9999, "day", 3)], "the `limit` of one of them is not from 0 to 2**63 - 1"),
        ([Allowance("a", 9, "day", -1)], "the `remaining` of one of them is not from 0 to 2**63 - 1"),
        ([Allowance("a", 9, "day", 3, "all")], "the `of` of one of them is neither `agent` nor `address`"),
        ([Allowance("a", 9, "day", 3, wait=None)], "the `wait` of one of them is a NoneType, not a number"),  # type: ignore[arg-type]
        ([Allowance("a", 9, "day", 3, wait=float("nan"))], "the `wait` of one of them is not from 0 to 2**63 - 1"),
        ([Allowance("a", 9, "day", 3, wait=float("inf"))], "the `wait` of one of them is not from 0 to 2**63 - 1"),
    ],
)
def test_a_plugin_whose_limits_cannot_be_read_hides_no_others(given: Any, why: str) -> None:
    found, problems = allowances_of(chain(WithLimits(given), WithLimits(["b"])).plugins, Principal("alice"))
    assert [it.plugin for it in found] == ["p1"]
    assert problems == [f"the limits of the plugin p0 cannot be read: {why}"]


@pytest.mark.parametrize(
    ("more", "said"), [(0, None), (1, "1"), (9, "9"), (MAX_COUNTED, "2000 or more"), (MAX_COUNTED + 1, "2000 or more")]
)
def test_the_limits_of_one_plugin_are_bounded_and_the_others_are_counted(more: int, said: str | None) -> None:
    many = chain(WithLimits([Allowance("x" * 1000, 9, "y" * 1000, 3)] * (MAX_ALLOWANCES + more))).plugins
    found, problems = allowances_of(many, Principal("alice"))
    assert len(found) == MAX_ALLOWANCES
    text = "the plugin p0 has more limits for this agent that are not shown: "
    assert problems == ([] if said is None else [text + said])
    assert (found[0].allowance.what, found[0].allowance.per) == ("x" * 300, "y" * 300)


def test_a_text_of_an_allowance_can_always_be_sent() -> None:
    found, problems = allowances_of(chain(WithLimits(["\ud800"])).plugins, Principal("alice"))
    assert (found[0].allowance.what, problems) == ("alice ?", [])
