"""Decodes JSON-RPC messages: `decode_request` those of agents, `decode_response` those of servers.

Each function tries a strict struct first, which reads the envelope and the members of `params` or `result` in one
pass. A message that is not in the canonical form (no white space between tokens, no member twice, no escapes in names,
no unknown members) is rewritten without white space and read again. If it is still not canonical, the general reader
takes it. Every step is a pass in C over the bytes, so the time is linear in the size of any message.

Payloads keep their tokens. White space between tokens may be removed; line breaks always are.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Raw

from gateway_core.errors import INVALID_REQUEST, RpcError
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.passes import (
    MAX_DEPTH,
    check_depth,
    check_depth_of_members,
    is_spaced,
    not_json,
    require_utf8,
    too_deep,
    without_spaces,
)

MAX_ID_BYTES: Final = 1024
MAX_MEMBERS: Final = 1024
"""Maximum members of an envelope, and of `params` and `result`. Deeper objects may have any number."""
MAX_ESCAPED: Final = 256
"""Maximum members of an object whose names may contain escapes."""

_WATCHED: Final = frozenset(
    {
        *("jsonrpc", "id", "method", "params", "result", "error"),
        *("name", "uri", "ref", "arguments", "_meta", "cursor", "taskId", "inputResponses", "requestState"),
    }
)
"""Member names that the gateway reads in an envelope or in `params`."""
_WATCHED_FOLDED: Final = frozenset(name.casefold() for name in _WATCHED)


class _Request(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    jsonrpc: Literal["2.0"]
    method: Annotated[str, msgspec.Meta(min_length=1)]
    id: Raw = Raw()
    params: dict[str, Raw] | msgspec.UnsetType = msgspec.UNSET


class _Response(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    jsonrpc: Literal["2.0"]
    id: int
    result: dict[str, Raw]


_encode: Final = msgspec.json.Encoder().encode
_REQUEST: Final = msgspec.json.Decoder(_Request)
_RESPONSE: Final = msgspec.json.Decoder(_Response)
_TEXT: Final = msgspec.json.Decoder(str | None)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_REQUEST_SIZE: Final = len('{"jsonrpc":"2.0","method":""}')
_ID_SIZE: Final = len(',"id":')
_PARAMS_SIZE: Final = len(',"params":')
_RESPONSE_SIZE: Final = len('{"jsonrpc":"2.0","id":,"result":}')
_RESULT_FIRST: Final = b'{"result":'
"""How the official TypeScript SDK begins a response."""
_BACKSLASH: Final = ord("\\")
_ZERO: Final = ord("0")
_QUOTE: Final = ord('"')
_SMALL: Final = 1 << 16
"""Bytes up to which copying a message costs less than a loop in Python that avoids it."""
_ABSENT: Final = (b"", b"null")
_NULL: Final = Raw(b"null")
_NO_PARAMS: Final = (b"null", b"[]")
"""How some peers write that a message has no params."""
_NOTIFICATIONS: Final = "notifications/"
"""Methods that begin so have no id; some peers write `"id": null`. An error without an id may have it, too."""
_INTEGER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)")


def decode_request(data: bytes) -> Message:
    """Decode one message of an agent: a request, a notification, or the response to a server's question.

    Raises `RpcError` with `PARSE_ERROR` (not JSON, not UTF-8) or `INVALID_REQUEST` (not one JSON-RPC 2.0 message,
    deeper than `MAX_DEPTH`, more than `MAX_MEMBERS` members, a member given twice or a watched name in another case).
    A rejected envelope has no trustworthy id, so the error response carries none.
    """
    if not data.isascii():
        require_utf8(data)
    size = len(data)
    found = None if is_spaced(data) else _strict_request(data)
    if found is None:
        data = without_spaces(data)
        found = _strict_request(data) if len(data) < size else None
    return found or _general(data)


def decode_response(data: bytes) -> Message:
    """Decode one message of a server: a response, a notification, or a request of a legacy server.

    Lone surrogates, which arise when a server cuts a text inside an emoji, become U+FFFD. Raises `RpcError` with
    `PARSE_ERROR` or `INVALID_REQUEST`.
    """
    if not data.isascii():
        require_utf8(data)
    found = None if is_spaced(data) else _strict_response(data)
    if found is None:
        data = without_spaces(data, repair=True)
        found = _strict_response(data)
    return found or _general(data)


def _strict_request(data: bytes) -> Message | None:
    """A request or a notification in canonical form; None for everything else.

    A message in that form is exactly as long as its members in the shortest JSON. A repeated member, white space or an
    escape would make it longer.
    """
    try:
        found = _REQUEST.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    raw_id, method, members, params = bytes(found.id), found.method, found.params, b""
    size = _REQUEST_SIZE + len(method)
    if raw_id:
        size += _ID_SIZE + len(raw_id)
    if members is msgspec.UNSET:
        members = {}
    else:
        params = _encode(members)
        size += _PARAMS_SIZE + len(params)
    if len(data) != size or (raw_id and not _is_id(raw_id)):
        return None
    if not _WATCHED.issuperset(members):
        _require_few(members)
        if _ill_cased(members):
            return None
    check_depth_of_members(data, members)
    return Message("2.0", found.id, method, Raw(params), members=members, is_request=bool(raw_id))


def _strict_response(data: bytes) -> Message | None:
    """A success response in canonical form with an integer id; None for everything else."""
    try:
        found = _RESPONSE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    digits, members = b"%d" % found.id, found.result
    if len(data) <= _SMALL:
        result = _encode(members)
        if len(data) != _RESPONSE_SIZE + len(digits) + len(result):
            return None
    else:
        _require_few(members)
        size = _size(members)
        if len(data) != _RESPONSE_SIZE + len(digits) + size:
            return None
        if data.startswith(_RESULT_FIRST):
            result = data[len(_RESULT_FIRST) : len(_RESULT_FIRST) + size]
        elif data.startswith(b'{"jsonrpc":"2.0","id":%b,"result":' % digits):
            result = data[-1 - size : -1]
        else:
            result = _encode(members)
    check_depth_of_members(data, members)
    return Message("2.0", Raw(digits), result=result, result_members=members, number=found.id)


def _general(data: bytes) -> Message:
    """Decode any message without white space between tokens. Raises `RpcError` (see `decode_request`)."""
    try:
        envelope = _MEMBERS.decode(data)
        version, method = (_TEXT.decode(envelope.get(name, _NULL)) or "" for name in ("jsonrpc", "method"))
    except msgspec.ValidationError as error:
        what = "a JSON array, where one message is expected" if data.lstrip()[:1] == b"[" else str(error)
        raise RpcError.of_gateway(INVALID_REQUEST, f"not a JSON-RPC message: {what}") from None
    except msgspec.DecodeError as error:
        not_json(error)
    except RecursionError:
        too_deep()
    absent = Raw()
    raw_id, raw_params = envelope.get("id", absent), bytes(envelope.get("params", absent))
    if raw_params in _NO_PARAMS:
        raw_params = b""
    if bytes(raw_id) == b"null" and (method.startswith(_NOTIFICATIONS) or (not method and "error" in envelope)):
        raw_id = absent
    has_members = raw_params[:1] == b"{"
    members = _MEMBERS.decode(raw_params) if has_members else {}
    _require_few(envelope)
    _require_few(members)
    if not (_are_all(envelope, data) and (not (method and has_members) or _are_all(members, raw_params))):
        raise RpcError.of_gateway(INVALID_REQUEST, "a member is given twice, or its name is written with escapes")
    if method:
        check_depth(raw_params, MAX_DEPTH - 1)  # other members are dropped
    else:
        check_depth(data)
    _require_case(envelope)
    if method:
        _require_case(members)
    message = Message(
        version,
        raw_id,
        method,
        Raw(raw_params),
        bytes(envelope.get("result", absent)),
        envelope.get("error", absent),
        members=members,
        is_request=bool(method and bytes(raw_id)),
    )
    problem = _wrong(message, bytes(raw_id), raw_params)
    if problem:
        raise RpcError.of_gateway(INVALID_REQUEST, problem)
    return message


def _wrong(message: Message, raw_id: bytes, raw_params: bytes) -> str:  # noqa: PLR0911 - one for each rule
    """The problem of an invalid envelope; empty if it is valid."""
    if message.jsonrpc != "2.0":
        return 'the member "jsonrpc" must be "2.0"'
    if raw_id and not _is_id(raw_id):
        return f'the member "id" must be a string or an integer of at most {MAX_ID_BYTES} bytes'
    if raw_params and raw_params[:1] != b"{":
        return 'the member "params" must be an object'
    if message.method:
        return ""
    if message.failed and message.result not in _ABSENT:
        return "a response with both a result and an error"
    if not (message.result or bytes(message.error)):
        return "neither a request, a notification nor a response"
    if not raw_id and not message.failed:
        return "a response without an id"
    return ""


def _is_id(raw: bytes) -> bool:
    """Whether an id is a string or an integer of at most `MAX_ID_BYTES`, as MCP requires."""
    if len(raw) > MAX_ID_BYTES:
        return False
    return (raw.isdigit() and raw[0] != _ZERO) or raw[0] == _QUOTE or _INTEGER.fullmatch(raw) is not None


def _require_few(members: dict[str, Raw]) -> None:
    if len(members) > MAX_MEMBERS:
        raise RpcError.of_gateway(INVALID_REQUEST, f"an object of the message has more than {MAX_MEMBERS} members")


def _ill_cased(members: dict[str, Raw]) -> bool:
    """Whether a name differs from a watched one only in case: Go's parser accepts `Name` and `argument\u017f`."""
    others = members.keys() - _WATCHED
    return not _WATCHED_FOLDED.isdisjoint("\0".join(others).casefold().split("\0"))


def _require_case(members: dict[str, Raw]) -> None:
    if _ill_cased(members):
        wrong = next((name for name in members.keys() - _WATCHED if name.casefold() in _WATCHED_FOLDED), "")
        raise RpcError.of_gateway(INVALID_REQUEST, f"the member {wrong!r} is in the wrong case")


def _are_all(members: dict[str, Raw], data: bytes) -> bool:
    """Whether the object `data` has exactly these members, none of them twice.

    Its length shows that, unless names contain escapes. Python escapes every character beyond ASCII, so `data` is also
    compared with that form.
    """
    if not data or _size(members) == len(data):
        return True
    return _BACKSLASH in data and len(members) <= MAX_ESCAPED and _escaped(members) == data


def _size(members: dict[str, Raw]) -> int:
    """Bytes of the shortest object with these members."""
    return len(_encode(list(members))) + len(members) + sum(map(len, members.values()))


def _escaped(members: dict[str, Raw]) -> bytes:
    """An object with its names escaped to ASCII, as Python's `json.dumps` does."""
    return b"{%b}" % b",".join(b"%b:%b" % (json.dumps(name).encode(), bytes(raw)) for name, raw in members.items())
