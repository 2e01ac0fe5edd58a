"""JSON-RPC messages, the readers of payloads, and the writers of envelopes; payloads stay bytes.

A `Message` holds the members of the envelope as `decoder.py` read them; `params`, `result` and `error` are JSON. Every
message that leaves is built here from those members, so that the next hop reads exactly what the gateway has checked,
even if its parser is laxer than ours.

Raw payloads never contain a newline: JSON allows one only between tokens, so it becomes a space on the way in,
which keeps stdio lines and server-sent events whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core.errors import INVALID_PARAMS, INVALID_REQUEST, RpcError
from gateway_core.mcp.read_only import read_only, read_only_object

MAX_DIGITS: Final = 4300
"""Longest integer that somebody who reads a payload can have (Python's own limit); passing on has none."""

EMPTY_OBJECT: Final = Raw(b"{}")


class Message(msgspec.Struct, gc=False):
    """One decoded envelope. An absent member is empty."""

    jsonrpc: str = ""
    id: Raw = Raw()
    method: str = ""
    params: Raw = Raw()
    result: Raw | bytes = Raw()
    error: Raw = Raw()
    members: dict[str, Raw] = msgspec.field(default_factory=dict)
    """Those of `params`."""
    is_request: bool = False
    """Whether it has a method and an id."""
    result_members: dict[str, Raw] | None = None
    """Those of `result`; None unless the message was in its canonical form, where none can be given twice."""

    @property
    def is_notification(self) -> bool:
        return bool(self.method) and not self.is_request

    @property
    def is_response(self) -> bool:
        return not self.method

    @property
    def failed(self) -> bool:
        """Whether this response is an error. Some peers write `"error": null` beside a result; that is none."""
        return bytes(self.error) not in (b"", b"null")


class _ErrorObject(msgspec.Struct):
    code: int
    message: str = ""
    data: Any = None


_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_ERROR: Final = msgspec.json.Decoder(_ErrorObject)
_ENCODER: Final = msgspec.json.Encoder()
_BACKSLASH: Final = ord("\\")
"""As a number, which is found eight times as fast as a string of one byte."""


def has(data: bytes, word: bytes) -> bool:
    """Whether `word` may be in JSON: its letters may be written as escapes, and then nobody can tell so cheaply.

    `find`, because `in` tries first what was given as a number, which costs more than to look for it in a short text.
    """
    return data.find(word) >= 0 or (_BACKSLASH in data and data.find(b"\\u") >= 0)


def members(raw: Raw | bytes, what: str = "") -> dict[str, Raw]:
    """The members of a JSON object, undecoded; an absent (empty) payload has none.

    Raises `RpcError` when it is not an object: `INVALID_PARAMS` naming `what`, `INVALID_REQUEST` without a name.
    """
    if not bytes(raw):
        return {}
    try:
        return _MEMBERS.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        if what:
            raise RpcError.of_gateway(INVALID_PARAMS, f"{what} must be an object") from None
        raise RpcError.of_gateway(INVALID_REQUEST, f"not a JSON object: {error}") from None


def value(raw: Raw | bytes, *, frozen: bool = False) -> Any:
    """Decode a payload for a reader; integers of any size are kept exactly. `frozen`: read-only all the way down.

    Raises `RpcError(INVALID_REQUEST)` for what cannot be written back unaltered: a member given twice in one
    object, a number outside the range of a double.
    """
    make = _frozen_once if frozen else _object_once
    try:
        found = json.loads(bytes(raw), object_pairs_hook=make, parse_float=_finite, parse_int=_whole_number)
        return read_only(found) if frozen else found
    except RecursionError:
        raise RpcError.of_gateway(INVALID_REQUEST, "nested too deeply") from None
    except ValueError as error:
        raise RpcError.of_gateway(INVALID_REQUEST, f"not valid JSON: {error}") from None


def _object_once(pairs: list[tuple[str, Any]], make: Callable[[Any], dict[str, Any]] = dict) -> dict[str, Any]:
    result = make(pairs)
    if len(result) != len(pairs):
        raise RpcError.of_gateway(INVALID_REQUEST, "an object gives one of its members twice")
    return result


_frozen_once: Final = partial(_object_once, make=read_only_object)


def _whole_number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise RpcError.of_gateway(INVALID_REQUEST, f"a number has more than {MAX_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise RpcError.of_gateway(INVALID_REQUEST, "a number is out of range")
    return number


def text(raw: Raw | bytes, what: str) -> str:
    """Decode a payload that must be a JSON string; raises `RpcError(INVALID_PARAMS)` naming `what`."""
    try:
        return _TEXT.decode(raw)
    except msgspec.DecodeError:
        raise RpcError.of_gateway(INVALID_PARAMS, f"{what} must be a string") from None


def error_of(raw: Raw | bytes) -> RpcError:
    """Decode an error object that an upstream sent; a malformed one becomes a readable error."""
    try:
        found = _ERROR.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return RpcError(-32603, "the upstream answered with a malformed error object")
    return RpcError(found.code, found.message, found.data)


def encode(obj: Any) -> bytes:
    """Encode a value (dicts, lists, scalars, `Raw`) to JSON bytes without newlines."""
    return _ENCODER.encode(obj)


def request(request_id: int | Raw, method: str, params: Mapping[str, Any] | Raw) -> bytes:
    """A request of the gateway's own, with its own id. Values of `params` may be `Raw`."""
    return _ENCODER.encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def notification(method: str, params: Mapping[str, Any] | Raw | None = None) -> bytes:
    """A notification; without `params`, or with an empty `Raw`, the member is left out."""
    if params is None or (isinstance(params, Raw) and not len(params)):
        return _ENCODER.encode({"jsonrpc": "2.0", "method": method})
    return _ENCODER.encode({"jsonrpc": "2.0", "method": method, "params": params})


def one_line(data: bytes) -> bytes:
    """The same message: line breaks stand between tokens only, and on a channel of lines they would end it."""
    if b"\n" in data or b"\r" in data:
        return data.replace(b"\n", b" ").replace(b"\r", b" ")
    return data


def result(request_id: Raw | bytes, payload: Raw | bytes) -> bytes:
    """A success response to the request whose id came as `request_id` (raw JSON, so `1` and `"1"` differ)."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, payload)


def error(request_id: Raw | bytes | None, problem: RpcError) -> bytes:
    """An error response; `None` or an empty id leaves the id out (the request could not be read)."""
    body: dict[str, Any] = {"code": problem.code, "message": problem.message}
    if problem.data is not None:
        body["data"] = problem.data
    head = b'{"jsonrpc":"2.0",'
    if request_id is not None and bytes(request_id):
        head += b'"id":%b,' % bytes(request_id)
    return head + b'"error":%b}' % _ENCODER.encode(body)
