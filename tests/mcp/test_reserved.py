"""What upstreams may not say in `_meta`."""

import json

import pytest

from gateway_core.mcp.reserved import HOP_KEYS, without_own, without_reserved

OWN = ["dev.radium.gateway/outcome", "dev.radium.gateway/upstream", "dev.radium.gateway/"]


@pytest.mark.parametrize("key", [*OWN, *sorted(HOP_KEYS)])
@pytest.mark.parametrize("escaped", [False, True])
def test_reserved_keys_are_removed_however_they_are_written(key: str, escaped: bool) -> None:
    written = "".join(f"\\u{ord(character):04x}" for character in key) if escaped else key
    raw = b'{"a":1.50,"_meta":{"%b":"x","progressToken":7}}' % written.encode()
    assert without_reserved(raw) == b'{"a":1.50,"_meta":{"progressToken":7}}'
    assert (without_own(raw) == without_reserved(raw)) is (key in OWN)


def test_a_meta_without_other_keys_is_removed() -> None:
    assert without_reserved(b'{"a":1,"_meta":{"dev.radium.gateway/x":1}}') == b'{"a":1}'


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{ "a": "dev.radium.gateway/outcome" }',
        b'{ "_meta": {"io.modelcontextprotocol/related-task": {"taskId": "1"}} }',
        b'{ "_meta": {"x": {"dev.radium.gateway/outcome": 1}} }',
        b'{ "_meta": ["dev.radium.gateway/outcome"] }',
        b'["dev.radium.gateway/outcome"]',
        b'"dev.radium.gateway/outcome"',
        b'{ "_meta": {"dev.radium.gateways/outcome": "\\u0041"} }',
    ],
)
def test_what_holds_no_reserved_key_keeps_its_bytes(raw: bytes) -> None:
    assert without_reserved(raw) is raw
    assert without_own(raw) is raw


def test_a_repeated_meta_hides_nothing() -> None:
    raw = b'{"_meta":{"dev.radium.gateway/x":1},"_meta":{"dev.radium.gateway/y":2,"z":3}}'
    assert json.loads(without_reserved(raw)) == {"_meta": {"z": 3}}
