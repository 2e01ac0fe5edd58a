"""Literal types of protocol terms."""

from typing import Literal

Era = Literal["legacy", "modern"]
"""`legacy`: revisions up to 2025-11-25 (initialize, sessions); `modern`: 2026-07-28 and later (stateless)."""

Transport = Literal["stdio", "sse", "http"]
Kind = Literal["tool", "prompt", "resource", "template"]
