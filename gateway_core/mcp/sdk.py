"""What the gateway uses of the official SDK while it serves: rules about headers and addresses."""

from __future__ import annotations

from typing import Final

from gateway_core.late_imports import LateImport

SDK: Final = LateImport("mcp.shared.auth_utils", "mcp.shared.inbound")
"""Importing it takes up to a second of processor time."""
