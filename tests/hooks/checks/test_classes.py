"""What plugins are made of: attributes that are not read, and context managers that are not entered."""

import ast
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway_core import Plugin, hookimpl
from gateway_core.hooks.checks.classes import ATTRIBUTES, FLAGS, METHODS, class_problems, instance_problems, methods_of

DOCS = Path(__file__).parents[3] / "docs"


class Passes:
    @hookimpl
    def before_call(self) -> None: ...


def made(base: type = Passes, **members: Any) -> type:
    return type("Made", (base,), members)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"fail_closed": True}, "has fail_closed, which the gateway does not read; did you mean fails_closed? "),
        ({"method": {"tools/list"}}, "has method, which the gateway does not read; did you mean methods? "),
        ({"METHODS": {"tools/list"}}, "did you mean methods? If it is for the plugin alone, call it _METHODS"),
        ({"page": []}, "did you mean pages?"),
        ({"warning": property(lambda self: [])}, "did you mean warnings?"),
        ({"wellknown": {}}, "did you mean well_known?"),
        ({"use_clocks": lambda self, clock: None}, "did you mean use_clock?"),
        ({"fails_closed": 1}, "its fails_closed must be True or False, not a int"),
        ({"measures_hooks": "yes"}, "its measures_hooks must be True or False, not a str"),
        ({"__aenter__": lambda self: None}, "has __aenter__ but no __aexit__, so the gateway would not enter it"),
        ({"__aexit__": lambda self: None}, "has __aexit__ but no __aenter__, so the gateway would not enter it"),
        ({"__enter__": lambda self: None, "__exit__": lambda self: None}, "is a context manager, but no asynchronous"),
    ],
)
def test_what_the_gateway_would_pass_over_without_a_word_is_a_problem(members: Mapping[str, Any], problem: str) -> None:
    (found,) = class_problems(made(**members))
    assert problem in found


@pytest.mark.parametrize(
    "members",
    [
        {},
        dict.fromkeys(sorted(ATTRIBUTES.difference(FLAGS)), ()),
        dict.fromkeys(FLAGS, True),
        {"fails_closed": True, "measures_hooks": False, "after_call_reads_arguments": False},
        {"methods": {"tools/list"}, "method": "GET"},
        {"_warning": "", "limit": 3, "page": lambda self: None, "Method": type},
        {"__aenter__": lambda self: None, "__aexit__": lambda self: None, "__enter__": lambda self: None},
        {"measures_hooks": property(lambda self: True)},
    ],
)
def test_what_a_plugin_may_have_is_none(members: Mapping[str, Any]) -> None:
    assert class_problems(made(**members)) == []
    assert class_problems(made(type("Typed", (Passes, Plugin), {}), **members)) == []


def test_the_attribute_of_a_subclass_counts_and_not_that_of_its_base() -> None:
    (found,) = class_problems(made(made(measures_hooks=True), measures_hooks="yes"))
    assert "its measures_hooks must be True or False, not a str" in found
    assert class_problems(made(made(measures_hooks="yes"), measures_hooks=True)) == []


def instance(**attributes: Any) -> Any:
    plugin = Passes()
    vars(plugin).update(attributes)
    return plugin


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"methods": {"tools/list", "tools/call"}}, "its constructor adds tools/list to methods"),
        ({"fails_closed": True}, "its constructor sets fails_closed, which is an attribute of the class"),
        ({"measures_hooks": 1}, "its measures_hooks must be True or False, not a int"),
    ],
)
def test_what_an_instance_cannot_change_is_a_problem(attributes: Mapping[str, Any], problem: str) -> None:
    (found,) = instance_problems(instance(**attributes), frozenset({"tools/call"}))
    assert problem in found


def test_an_instance_may_name_fewer_methods_than_its_class() -> None:
    assert list(instance_problems(instance(methods=()), frozenset({"tools/call"}))) == []
    assert methods_of(instance(methods=["tools/call"]), pytest.fail) == {"tools/call"}


def test_methods_that_are_none_are_left_out() -> None:
    found: list[str] = []
    assert methods_of(instance(methods=["tools/call", "tools/cal", []]), found.append) == {"tools/call"}
    assert [text.partition(",")[0] for text in found] == ["its methods name 'tools/cal'", "its methods name []"]


def test_the_base_class_declares_every_optional_attribute() -> None:
    (block,) = [one for one in ast.walk(ast.parse(inspect.getsource(Plugin))) if isinstance(one, ast.If)][:1]
    names = {one.target.id for one in block.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)}
    names |= {one.name for one in block.body if isinstance(one, ast.FunctionDef)}
    assert names == ATTRIBUTES | METHODS


def test_the_documentation_has_a_table_of_all_of_them() -> None:
    text = (DOCS / "hooks.md").read_text()
    table = text.partition("## Optional attributes")[2].partition("\n## ")[0]
    names = set(re.findall(r"^\| `(\w+)(?:\(\w+\))?` \|", table, re.MULTILINE))
    assert names == ATTRIBUTES | METHODS
