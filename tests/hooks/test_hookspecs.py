"""Every hook is documented under its exact signature, and has a test of its name."""

import re
from pathlib import Path

import pytest

from gateway_core.hooks import HOOKS

ROOT = Path(__file__).parents[1].parent


def _headings(document: str) -> set[str]:
    text = (ROOT / "docs" / document).read_text()
    return {heading.strip().strip("`") for heading in re.findall(r"^#{2,3} (.+)$", text, re.MULTILINE)}


def _documented() -> set[str]:
    return {heading for heading in _headings("hooks.md") if re.fullmatch(r"\w+\(.*\)", heading)}


def test_the_hooks_are_these_eight():
    assert HOOKS == {
        "route_tool": ("call", "candidates"),
        "resolve_conflict": ("conflict",),
        "before_call": ("call",),
        "after_call": ("call", "result"),
        "check_health": ("upstream",),
        "authenticate": ("credentials",),
        "observe": ("event",),
        "trace_call": ("begun",),
    }


@pytest.mark.parametrize("name", HOOKS)
def test_the_documentation_has_a_heading_with_the_exact_signature(name):
    assert f"{name}({', '.join(HOOKS[name])})" in _documented()


def test_the_documentation_has_no_other_hooks():
    assert {heading.partition("(")[0] for heading in _documented()} == set(HOOKS)


@pytest.mark.parametrize("name", HOOKS)
def test_each_hook_has_a_test_of_its_name(name):
    files = ("test_chain", "test_authenticators", "test_observers", "tracing/test_tracing")
    tests = "".join((ROOT / "tests" / "hooks" / f"{file}.py").read_text() for file in files)
    assert re.search(rf"^(async )?def test_hook_{name}\(", tests, re.MULTILINE)
