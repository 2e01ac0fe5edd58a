"""What plugins may import: exactly these names, each documented, each loaded on first use."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gateway_core
from gateway_core import api
from gateway_core.hooks import hookspecs

EXPORTED = {
    "Allowance",
    "Answer",
    "Approvals",
    "Ask",
    "AuthenticationEnded",
    "Call",
    "CallEnded",
    "CallBegun",
    "CallResult",
    "CallTrace",
    "Claim",
    "ClientCertificate",
    "CommandContext",
    "CommandError",
    "CommandGroup",
    "ConfigOption",
    "ConfigPath",
    "Credentials",
    "Decision",
    "Era",
    "Event",
    "Globs",
    "HeaderName",
    "Health",
    "HookStep",
    "Hider",
    "HopStep",
    "JsonOption",
    "Judgement",
    "Kind",
    "Known",
    "Note",
    "Outcome",
    "Page",
    "Pass",
    "Patterns",
    "Plugin",
    "PluginConfig",
    "Principal",
    "Published",
    "RecordedCall",
    "Rehearsal",
    "Reject",
    "Step",
    "Remember",
    "RpcError",
    "Tier",
    "Tool",
    "ToolConflict",
    "TrustedAuthorities",
    "Turns",
    "UnusableFile",
    "UpstreamChanged",
    "UpstreamState",
    "UpstreamView",
    "WaitStep",
    "UriGlobs",
    "check_public_file",
    "check_secret_file",
    "hookimpl",
    "is_loopback",
    "network_of",
    "note",
    "open_private_file",
    "read_private_file",
    "shown_name",
    "tier_of",
}


def test_these_names_are_exported() -> None:
    assert set(gateway_core.__all__) == EXPORTED
    assert dir(gateway_core) == sorted(EXPORTED)
    assert all(getattr(gateway_core, name) is not None for name in EXPORTED)
    assert gateway_core.Principal is api.Principal
    assert issubclass(gateway_core.RpcError, Exception)


def test_a_name_that_is_not_exported_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Exchange'"):
        importlib.import_module("gateway_core").Exchange  # noqa: B018


def test_every_exported_name_is_in_the_table_for_plugin_authors() -> None:
    page = (Path(__file__).parents[1] / "docs" / "writing-a-plugin.md").read_text()
    table = page.partition("## What can be imported\n")[2].partition("\n## ")[0]
    first_columns = re.findall(r"^\| (`[^|]*) \|", table, re.M)
    assert {name for column in first_columns for name in re.findall(r"`(\w+)`", column)} == EXPORTED


def test_every_type_in_a_hooks_signature_is_exported() -> None:
    named = set()
    for hook in ("route_tool", "resolve_conflict", "before_call", "after_call", "check_health"):
        named |= set(re.findall(r"[A-Z]\w+", str(inspect.signature(getattr(hookspecs, hook)))))
    assert named - {"Sequence", "Mapping", "Awaitable", "None"} <= EXPORTED


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import sys, gateway_core; print([m for m in sys.modules if m.startswith('gateway_core.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
