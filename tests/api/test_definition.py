"""Definitions are decoded when a plugin reads them, once, and cannot be changed."""

import pytest

from gateway_core.api import Claim, Tool
from gateway_core.mcp.read_only import ReadOnlyError

RAW = b'{"name":"t","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}'


@pytest.mark.parametrize("holder", [Tool("t", "t", RAW, ("a",)), Claim("t", RAW, ())])
def test_a_definition_is_decoded_on_first_use_and_kept(holder: Tool | Claim) -> None:
    first = holder.definition
    assert first["inputSchema"] == {"type": "object"}
    assert holder.definition is first
    with pytest.raises(ReadOnlyError):
        first["inputSchema"]["type"] = "array"


def test_annotations_come_from_the_definition() -> None:
    assert Tool("t", "t", RAW, ("a",)).annotations == {"readOnlyHint": True}


def test_tools_are_equal_whether_or_not_they_were_read() -> None:
    read, unread = Tool("t", "t", RAW, ("a",)), Tool("t", "t", RAW, ("a",))
    assert read.definition
    assert read == unread
    assert hash(read) == hash(unread)
    assert read != Tool("t", "t", b'{"name":"t"}', ("a",))
