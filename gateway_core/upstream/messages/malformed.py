"""Slightly malformed messages of servers: repairs them, or finds the call that they answer.

The official SDK clients accept a notification whose `params` or `id` is null. A response that is no valid JSON is an
error of its call, which is found by the id near the beginning or the end of the message.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Raw

from gateway_core.errors import UnusableAnswer
from gateway_core.mcp import jsonrpc
from gateway_core.upstream.pending import own_id

EDGE: Final = 256
"""Bytes at each end of a message in which its id is searched."""
_VERSION: Final = rb'"jsonrpc"\s*:\s*"2\.0"\s*'
_ID: Final = rb'"id"\s*:\s*("?)([0-9]{1,18})\1\s*'
_ID_AHEAD: Final = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb",\s*)?" + _ID + rb",")
_ID_BEHIND: Final = re.compile(
    rb"(?:" + _VERSION + rb",\s*" + _ID + rb"|" + _ID.replace(rb"\1", rb"\3") + rb",\s*" + _VERSION + rb"),?\s*\}\s*$"
)
_EMPTY: Final = frozenset({b"null", b"[]"})
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_PLACE: Final = re.compile(r"\(byte (\d+)\)$")
_NO_VALUES: Final = re.compile(rb"-?(NaN|Infinity)|None|True|False|undefined")
_SPACE: Final = 32


class _Envelope(msgspec.Struct):
    """The id and method of an invalid response, undecoded."""

    id: Raw = Raw()
    method: Raw = Raw()


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def tolerated(data: bytes) -> bytes | None:
    """A request or notification without its empty members: `params` that are null or `[]`, and an `id` that is null.

    None for other messages.
    """
    try:
        envelope = _MEMBERS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    empty = [name for name in ("params", "id") if bytes(envelope.get(name, Raw())) in _EMPTY]
    if "method" not in envelope or not empty or bytes(envelope.get("id", Raw())) == b"[]":
        return None
    # A member that is given twice must stay an error.
    if any(data.count(b'"%b"' % name.encode()) > 1 for name in (*empty, "method")):
        return None
    return jsonrpc.encode({name: value for name, value in envelope.items() if name not in empty})


def request_answered(data: bytes) -> int:
    """The id of the request that an unreadable message answers; 0 if that cannot be said."""
    try:
        found = _ENVELOPE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return id_at_the_edges(data[:EDGE], data[-EDGE:])
    return 0 if len(found.method) else own_id(found.id)


def id_at_the_edges(head: bytes, tail: bytes) -> int:
    """The id of a response that begins with `head` and ends with `tail`, if it stands beside `jsonrpc`; 0 without."""
    ahead, behind = _ID_AHEAD.match(head), _ID_BEHIND.search(tail)
    if ahead is not None and b'"method"' not in head[: ahead.end() + 16]:
        return int(ahead[2])
    return int(behind[2] or behind[4]) if behind is not None else 0


def unreadable(data: bytes) -> UnusableAnswer:
    """The error of the call that a malformed message answers."""
    return UnusableAnswer(f"the server's answer is malformed: {_reason(data)}")


def _reason(data: bytes) -> str:
    """Why a message cannot be read, without quoting its payload."""
    try:
        msgspec.json.decode(data, type=Raw)
    except UnicodeDecodeError:
        return "it is not UTF-8"
    except RecursionError:
        return "it is nested too deeply"
    except msgspec.DecodeError as error:
        text = str(error).removeprefix("JSON is malformed: ")
        place = _PLACE.search(text)
        at = int(place[1]) if place is not None else len(data)
        value = _NO_VALUES.match(data, max(0, at - 1)) or _NO_VALUES.match(data, at)
        if value is not None:
            return f"it is not valid JSON: {value[0].decode()} is not a JSON value (byte {at})"
        if at < len(data) and data[at] < _SPACE:
            return f"it is not valid JSON: a control character in a text must be escaped (byte {at})"
        return f"it is not valid JSON: {text}"
    return "it is not a JSON-RPC message, or nested too deeply"
