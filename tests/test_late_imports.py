"""Modules that are imported when they are first needed. `tests/mcp/test_sdk.py` tests that the event loop goes on."""

import sys

import pytest

from gateway_core.late_imports import LateImport


async def test_modules_are_imported_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    late = LateImport("colorsys")
    assert "colorsys" not in sys.modules
    await late.load()
    assert "colorsys" in sys.modules


async def test_loading_tells_each_caller_that_a_module_is_missing() -> None:
    late = LateImport("json", "gateway_core.no_such_module")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            await late.load()
