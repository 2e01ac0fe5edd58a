"""The usual messages, read at once: requests and results as most peers write them. The others are for `jsonrpc`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Raw

from gateway_core.jsonrpc import MAX_ID_BYTES, Message, valid_id, well_cased
from gateway_core.nesting import has_few_brackets
from gateway_core.surrogates import has_half_surrogate


class _Request(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    jsonrpc: Literal["2.0"]
    id: Raw
    method: Annotated[str, msgspec.Meta(min_length=1)]
    params: dict[str, Raw]


class _Response(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    jsonrpc: Literal["2.0"]
    id: int
    result: dict[str, Raw]


_encode: Final = msgspec.json.Encoder().encode
_REQUEST: Final = msgspec.json.Decoder(_Request)
_REQUEST_SIZE: Final = len('{"jsonrpc":"2.0","id":,"method":"","params":}')
_RESPONSE: Final = msgspec.json.Decoder(_Response)
_NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")
_ZERO: Final = ord("0")
_BRACE: Final = ord("{")
_SMALL: Final = 2048
"""Bytes of a response up to which it is written again to see that it is the shortest JSON."""
_RESULT_FIRST: Final = b'{"result":'
"""How the official TypeScript SDK begins a response."""
USUAL_STARTS: Final = (b'{"jsonrpc":"2.0","id":', _RESULT_FIRST)
"""How responses begin that `usual_response` may read."""


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
    params = _encode(members)
    if (
        len(data) != _REQUEST_SIZE + len(raw_id) + len(method) + len(params)
        or not ((raw_id.isdigit() and raw_id[0] != _ZERO and len(raw_id) <= MAX_ID_BYTES) or valid_id(raw_id))
        or not well_cased(members)
    ):
        return None
    return Message("2.0", found.id, method, Raw(params), members=members, is_request=True)


def usual_response(data: bytes) -> tuple[int, bytes, dict[str, Raw]] | None:
    """The id of the request that this is the response to, the result object in it, and its members.

    None for whatever `jsonrpc.decode` is for. That is so, too, where envelope and result are not written as the
    shortest JSON (but for the values in them): then nothing is given twice or hidden behind escapes.
    """
    if _NEWLINE in data or _RETURN in data or not has_few_brackets(data) or has_half_surrogate(data):
        return None
    try:
        if not data.isascii():
            data.decode()
        response = _RESPONSE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    number, members = response.id, response.result
    if len(data) <= _SMALL and _encode(response) == data:
        return number, data[data.find(_BRACE, 1) : -1], members
    size = sum(map(len, members)) + sum(map(len, members.values())) + 4 * len(members) + (1 if members else 2)
    start = b'{"jsonrpc":"2.0","id":%d,"result":' % number
    if len(data) == len(start) + size + 1 and data.startswith(start):
        return number, data[len(start) : -1], members
    end = b',"jsonrpc":"2.0","id":%d}' % number
    if len(data) == len(_RESULT_FIRST) + size + len(end) and data.startswith(_RESULT_FIRST) and data.endswith(end):
        return number, data[len(_RESULT_FIRST) : -len(end)], members
    return None
