"""JSON-RPC messages, readers of payloads, and writers of envelopes; payloads stay bytes.

A `Message` holds the members of the envelope as `decoder.py` read them; `params`, `result` and `error` are JSON. Every
outgoing envelope is built here from those members. So the next hop reads exactly what the gateway has checked, even if
its parser is laxer.

Raw payloads never contain a newline, which would break stdio lines and server-sent events. JSON allows one only between
tokens, and the decoder removes it.
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
"""Maximum digits of an integer that `value` decodes (Python's own limit). Payloads passed on have no limit."""

MAX_ERROR: Final = 256 * 1024
"""Bytes of an error object with all its data."""
MAX_MESSAGE: Final = 4096
"""Characters that are kept of the message of a larger one."""
EMPTY_OBJECT: Final = Raw(b"{}")


class Message(msgspec.Struct, gc=False):
    """One decoded envelope. Absent members are empty."""

    jsonrpc: str = ""
    id: Raw = Raw()
    method: str = ""
    params: Raw = Raw()
    result: bytes = b""
    error: Raw = Raw()
    members: dict[str, Raw] = msgspec.field(default_factory=dict)
    """The members of `params`."""
    is_request: bool = False
    """Whether it has a method and an id."""
    result_members: dict[str, Raw] | None = None
    """The members of `result`; None unless the message was in canonical form, which has no repeated members."""
    number: int = 0
    """The id of a response in canonical form, which is an integer; 0 for any other message."""

    @property
    def is_notification(self) -> bool:
        return bool(self.method) and not self.is_request

    @property
    def is_response(self) -> bool:
        return not self.method

    @property
    def failed(self) -> bool:
        """Whether this response is an error. Some peers write `"error": null` beside a result, which is not one."""
        return bytes(self.error) not in (b"", b"null")


class _ErrorObject(msgspec.Struct):
    code: int
    message: str = ""
    data: Any = None


_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_ERROR: Final = msgspec.json.Decoder(_ErrorObject)
_CODES: Final = 2**31
"""Codes that some clients have no room for begin here."""
_ENCODER: Final = msgspec.json.Encoder()
encode: Final = _ENCODER.encode
"""Encodes a value (dicts, lists, scalars, `Raw`) to JSON bytes without newlines."""
_BACKSLASH: Final = ord("\\")
"""An integer, because `in` finds it faster than a bytes object; so are the line ends."""
_NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")


def has(data: bytes, word: bytes) -> bool:
    """Whether `word` may be in JSON. True for any JSON with `\\u` escapes, because those may spell the word.

    It uses `find`, because `in` first tries to convert `word` to an integer, which is slower on short data.
    """
    return data.find(word) >= 0 or (_BACKSLASH in data and data.find(b"\\u") >= 0)


def members(raw: Raw | bytes, what: str = "") -> dict[str, Raw]:
    """The undecoded members of a JSON object; none for an absent (empty) payload.

    Raises `RpcError` if it is not an object: `INVALID_PARAMS` naming `what`, `INVALID_REQUEST` without a name.
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
    """Decode a payload; integers of up to `MAX_DIGITS` digits are kept exactly. `frozen`: read-only at every level.

    Raises `RpcError(INVALID_REQUEST)` for JSON that cannot be written back unaltered: a member given twice in one
    object, a number outside the range of a double. Also for invalid JSON and for longer integers.
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
    """Decode a JSON string. Raises `RpcError(INVALID_PARAMS)` naming `what` for anything else."""
    try:
        return _TEXT.decode(raw)
    except msgspec.DecodeError:
        raise RpcError.of_gateway(INVALID_PARAMS, f"{what} must be a string") from None


def error_of(raw: Raw | bytes) -> RpcError:
    """Decode the error object of a peer. One without a valid code gets -32603 and keeps its message.

    A code is valid if it fits into the 32 bits that some clients have for it. An object that is larger than `MAX_ERROR`
    bytes loses its data, and its message is cut: decoded, the data of an error may take many times its size.
    """
    if len(raw) > MAX_ERROR:
        raw = _small_error(raw)
    try:
        found = _ERROR.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return RpcError(-32603, _message_in(raw) or "the upstream answered with a malformed error object")
    code = found.code if -_CODES <= found.code < _CODES else -32603
    return RpcError(code, found.message or "the upstream answered with an error without a message", found.data)


def _small_error(raw: Raw | bytes) -> bytes:
    """A large error object without its data, and with a cut message."""
    try:
        found = members(raw)
    except RpcError:
        return b"{}"
    message = f"{_message_in(raw)[:MAX_MESSAGE]} (the error has {len(raw)} bytes, so its data is left out)"
    return encode({"code": found.get("code", Raw(b"0")), "message": message})


def _message_in(raw: Raw | bytes) -> str:
    """The message in a malformed error object, or the text sent in its place; empty if there is none."""
    try:
        return _TEXT.decode(members(raw).get("message", Raw(b'""')) if bytes(raw)[:1] == b"{" else raw)
    except (msgspec.DecodeError, RecursionError, RpcError):
        return ""


def request(request_id: int | Raw, method: str, params: Mapping[str, Any] | Raw) -> bytes:
    """A request from the gateway, with its id. Values of `params` may be `Raw`."""
    return _ENCODER.encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def notification(method: str, params: Mapping[str, Any] | Raw | None = None) -> bytes:
    """A notification. The member `params` is omitted for None and for an empty `Raw`."""
    if params is None or (isinstance(params, Raw) and not len(params)):
        return _ENCODER.encode({"jsonrpc": "2.0", "method": method})
    return _ENCODER.encode({"jsonrpc": "2.0", "method": method, "params": params})


def one_line(data: bytes) -> bytes:
    """The same JSON on one line. Line breaks stand only between tokens, so each becomes a space."""
    if _NEWLINE in data or _RETURN in data:
        return data.replace(b"\n", b" ").replace(b"\r", b" ")
    return data


def result(request_id: Raw | bytes, payload: Raw | bytes) -> bytes:
    """A success response to the request with this id (raw JSON, so `1` and `"1"` differ)."""
    return b"".join((b'{"jsonrpc":"2.0","id":', request_id, b',"result":', payload, b"}"))


def error(request_id: Raw | bytes | None, problem: RpcError) -> bytes:
    """An error response; None or an empty id omits the id (the request could not be read)."""
    body: dict[str, Any] = {"code": problem.code, "message": problem.message}
    if problem.data is not None:
        body["data"] = problem.data
    head = b'{"jsonrpc":"2.0",'
    if request_id is not None and bytes(request_id):
        head += b'"id":%b,' % bytes(request_id)
    return head + b'"error":%b}' % _ENCODER.encode(body)
