"""The usual messages, read at once: requests and results as most peers write them. The others are for `jsonrpc`."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gateway_core.jsonrpc import Message, encode, valid_id, well_cased
from gateway_core.nesting import has_few_brackets


class _Request(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    jsonrpc: str
    id: Raw
    method: str
    params: dict[str, Raw]


class _Response(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    jsonrpc: str
    id: int
    result: Raw


_REQUEST: Final = msgspec.json.Decoder(_Request)
_REQUEST_SIZE: Final = len('{"jsonrpc":"2.0","id":,"method":"","params":}')
_RESPONSE: Final = msgspec.json.Decoder(_Response)
_NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")


def usual_request(data: bytes) -> Message | None:
    """The request that `data` is, as most clients write one; None for whatever `jsonrpc.decode` is for.

    Its size is that of its members as the shortest JSON, so there is no room for a member given twice, for white space
    or for escapes.
    """
    if _NEWLINE in data or _RETURN in data or not has_few_brackets(data):
        return None
    try:
        if not data.isascii():
            data.decode()
        found = _REQUEST.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    raw_id, method, members = bytes(found.id), found.method, found.params
    params = encode(members)
    if (
        len(data) != _REQUEST_SIZE + len(raw_id) + len(method) + len(params)
        or found.jsonrpc != "2.0"
        or not valid_id(raw_id)
        or not well_cased(members)
        or not method
    ):
        return None
    return Message("2.0", found.id, method, Raw(params), members=members, has_id=True)


def usual_result(data: bytes, number: int) -> bytes | None:
    """The result object in the response to the request `number`; None for whatever `jsonrpc.decode` is for."""
    if b"\\ud" in data or b"\\uD" in data or _NEWLINE in data or _RETURN in data or not has_few_brackets(data):
        return None
    try:
        if not data.isascii():
            data.decode()
        response = _RESPONSE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if response.id != number or response.jsonrpc != "2.0":
        return None
    result = bytes(response.result)
    return result if result[:1] == b"{" else None
