"""JSON-RPC envelopes in, envelopes out; payloads stay bytes.

A `Message` holds the members of the envelope as they came; `params`, `result` and `error` are `Raw`, slices of
the bytes that arrived. Nothing here knows a method. Every message that leaves is built here anew, so that what
the gateway has checked is exactly what the next hop reads, even if its parser is laxer than ours.

Raw payloads never contain a newline: JSON allows one only between tokens, so it becomes a space on the way in,
which keeps stdio lines and server-sent events whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core.errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, RpcError
from gateway_core.nesting import MAX_DEPTH, check_depth
from gateway_core.read_only import read_only, read_only_object
from gateway_core.repeats import ambiguous
from gateway_core.surrogates import mended

MAX_ID_BYTES: Final = 1024
MAX_DIGITS: Final = 4300
"""Longest integer that somebody who reads a payload can have (Python's own limit); passing on has none."""

EMPTY_OBJECT: Final = Raw(b"{}")


class Message(msgspec.Struct, gc=False):
    """One decoded envelope. An absent member is an empty `Raw` (or an empty `method`)."""

    jsonrpc: str = ""
    id: Raw = Raw()
    method: str = ""
    params: Raw = Raw()
    result: Raw = Raw()
    error: Raw = Raw()
    members: dict[str, Raw] = msgspec.field(default_factory=dict, name="(members)")
    """Those of `params`; set by `decode`, whatever the message has under that name."""
    is_request: bool = msgspec.field(default=False, name="(request)")
    """Whether it has a method and an id; set by `decode`, too."""

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


_WATCHED: Final = frozenset(
    [
        "jsonrpc",
        "id",
        "method",
        "params",
        "taskId",
        "result",
        "error",
        "name",
        "uri",
        "arguments",
        "_meta",
        "cursor",
        "ref",
        "inputResponses",
        "requestState",
    ]
)
_WATCHED_FOLDED: Final = frozenset(key.casefold() for key in _WATCHED)
_WATCHED_BYTES: Final = frozenset(key.encode() for key in _WATCHED)
_WATCHED_KEY: Final = re.compile(rb'"(' + b"|".join(sorted(_WATCHED_BYTES)) + rb')"[ \t]*:', re.IGNORECASE)
_ENVELOPE: Final = msgspec.json.Decoder(Message)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_ERROR: Final = msgspec.json.Decoder(_ErrorObject)
_ENCODER: Final = msgspec.json.Encoder()
_NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")
_BACKSLASH: Final = ord("\\")
"""As numbers, which are found eight times as fast as strings of one byte."""
_FOLDED_TO_ASCII: Final = ("\u017f".encode(), "\u212a".encode())
"""The only characters that are the same as an ASCII letter, "s" and "k", to those who ignore case."""
_INTEGER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)")


def decode(data: bytes, *, mend: bool = False) -> Message:
    """Decode one message and check its envelope.

    `mend`: half surrogate pairs, which servers make by cutting a text inside an emoji, become U+FFFD instead of
    making the message unreadable.

    Raises `RpcError` with `PARSE_ERROR` (not JSON, not UTF-8) or `INVALID_REQUEST` (not one JSON-RPC 2.0 message,
    deeper than `MAX_DEPTH`, a member given twice or in another case). An envelope that is refused has no id to
    trust, so the answer to it carries none.
    """
    if mend:
        data = mended(data)
    try:
        if not data.isascii():
            data.decode()
        message = _ENVELOPE.decode(data)
        if _NEWLINE in data or _RETURN in data:
            # Now that it is known to be JSON, they can only stand between tokens.
            data = data.replace(b"\n", b" ").replace(b"\r", b" ")
            message = _ENVELOPE.decode(data)
    except msgspec.ValidationError as error:
        what = "a JSON array: batches are not part of MCP" if data.lstrip()[:1] == b"[" else str(error)
        raise RpcError.of_gateway(INVALID_REQUEST, f"not a JSON-RPC message: {what}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RpcError.of_gateway(PARSE_ERROR, f"not valid JSON: {error}") from None
    except RecursionError:
        raise RpcError.of_gateway(INVALID_REQUEST, f"nested deeper than {MAX_DEPTH} levels") from None
    check_depth(data)
    raw_id, raw_params = bytes(message.id), bytes(message.params)
    message.is_request = bool(message.method and raw_id)
    message.members = _MEMBERS.decode(raw_params) if raw_params[:1] == b"{" else {}
    if message.method and not _is_plain(len(data), message, len(raw_id), len(raw_params)):
        _check_keys(data)
    problem = _wrong(message, raw_id, raw_params)
    if not (problem or message.method):
        problem = ambiguous(data, message.id, message.params, message.result, message.error)
    if problem:
        raise RpcError.of_gateway(INVALID_REQUEST, problem)
    return message


def _wrong(message: Message, raw_id: bytes, raw_params: bytes) -> str:  # noqa: PLR0911 - one for each rule
    """What is wrong with an envelope; empty for nothing."""
    if message.jsonrpc != "2.0":
        return 'the member "jsonrpc" must be "2.0"'
    if raw_id and not valid_id(raw_id):
        return 'the member "id" must be a string or an integer'
    if raw_params and raw_params[:1] != b"{":
        return 'the member "params" must be an object'
    if message.method:
        return ""
    if not (bytes(message.result) or bytes(message.error)):
        return "neither a request, a notification nor a response"
    if not raw_id and not message.failed:
        return "a response without an id"
    return ""


def _is_plain(size: int, message: Message, id_size: int, params_size: int) -> bool:
    """Whether nothing stands in a request's envelope and `params` but what was read of them.

    That is so where their sizes are those of the members as the shortest JSON: then there is no room for a member given
    twice, for one that is not known, nor for white space and escapes (which most clients do not write). Without it,
    `_check_keys` looks more closely.
    """
    expected = len('{"jsonrpc":"2.0","method":""}') + len(message.method)
    if id_size:
        expected += len(',"id":') + id_size
    if params_size:
        expected += len(',"params":') + params_size
    if size != expected:
        return False
    if not params_size:
        return True
    members = message.members
    return well_cased(members) and len(_ENCODER.encode(members)) == params_size


def well_cased(members: Mapping[str, Raw]) -> bool:
    """Whether no member is one that is read, written in another case."""
    return _WATCHED.issuperset(members) or not any(
        key not in _WATCHED and key.casefold() in _WATCHED_FOLDED for key in members
    )


def has(data: bytes, word: bytes) -> bool:
    """Whether `word` may be in JSON: its letters may be written as escapes, and then nobody can tell so cheaply.

    `find`, because `in` tries first what was given as a number, which costs more than to look for it in a short text.
    """
    return data.find(word) >= 0 or (_BACKSLASH in data and data.find(b"\\u") >= 0)


def valid_id(raw: bytes) -> bool:
    """Whether an id is one that JSON-RPC and MCP allow, of bounded length."""
    if len(raw) > MAX_ID_BYTES:
        return False
    return raw[:1] == b'"' or (raw.isdigit() and raw[:1] != b"0") or _INTEGER.fullmatch(raw) is not None


def _check_keys(data: bytes) -> None:
    """Refuse members of the envelope or of `params` that parsers read differently.

    A key given twice: Python keeps the last, others the first. A key in another case: Go's parser takes `Name`
    for `name`. Either would let the next hop see another request than the one that was checked.
    """
    found = _WATCHED_KEY.findall(data)
    unusual = b"\\u" in data or any(letter in data for letter in _FOLDED_TO_ASCII)
    if not unusual and len(found) == len(_WATCHED_BYTES.intersection(found)):
        return
    # Numbers are not looked at, and Python would refuse those of more than 4300 digits.
    envelope = json.loads(data, object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
    for level in (envelope, envelope.get("params")):
        if not isinstance(level, _Pairs):
            continue
        seen: set[str] = set()
        for key, _ in level:
            if key in seen:
                raise RpcError.of_gateway(INVALID_REQUEST, f"the member {key!r} is given twice")
            if key not in _WATCHED and key.casefold() in _WATCHED_FOLDED:
                raise RpcError.of_gateway(INVALID_REQUEST, f"the member {key!r} is in the wrong case")
            seen.add(key)


class _Pairs(list[tuple[str, Any]]):
    def get(self, key: str) -> Any:
        return next((value for name, value in self if name == key), None)


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
