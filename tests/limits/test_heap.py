"""Freed memory is returned to the system."""

import gc

from gateway_core.limits.budget import MemoryBudget
from gateway_core.limits.heap import trim

MB = 1024 * 1024


def test_the_own_memory_is_measured_and_trimmed() -> None:
    budget = MemoryBudget(64 * 1024 * MB)
    gc.collect()
    trim()  # what earlier tests left must not shrink meanwhile
    budget.poll()
    before = budget.level
    block = bytearray(200 * MB)
    budget.poll()
    grown = budget.level
    del block
    trim()
    budget.poll()
    assert grown > before + 0.002
    assert budget.level < grown - 0.002
