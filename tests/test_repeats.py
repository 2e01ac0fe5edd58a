"""Members of a response that are given twice."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.errors import INVALID_REQUEST, RpcError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "result", "error"]) | st.text(), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["id", "result", "jsonrpc", "error"])
SPACE = st.text(" \t\r\n", max_size=3)


def written(members: list[tuple[str, str]], space: str) -> bytes:
    """The members as JSON, with white space wherever it may be."""
    pairs = [f"{space}{json.dumps(name)}{space}:{space}{value}{space}" for name, value in members]
    return ("{" + ",".join(pairs) + "}").encode()


@given(result=st.dictionaries(st.text(), VALUES), extra=VALUES, space=SPACE, indent=st.none() | st.integers(0, 2))
def test_a_response_is_read_with_whatever_in_it(result: object, extra: object, space: str, indent: int | None) -> None:
    text = json.dumps(result, indent=indent, ensure_ascii=False)
    members = [("jsonrpc", '"2.0"'), ("id", "7"), ("result", text), ("took", json.dumps(extra))]
    data = written(members, space)
    assert json.loads(bytes(jsonrpc.decode(data).result)) == result
    assert bytes(jsonrpc.decode(written(members[:3], space)).id) == b"7"


@given(result=st.dictionaries(st.text(), VALUES), name=NAMES, value=VALUES, space=SPACE, place=st.integers(0, 3))
def test_a_member_given_twice_is_refused(result: object, name: str, value: object, space: str, place: int) -> None:
    members = [("jsonrpc", '"2.0"'), ("id", "7"), ("result", json.dumps(result)), ("error", "null")]
    members.insert(place, (name, json.dumps(value)))
    with pytest.raises(RpcError) as refused:
        jsonrpc.decode(written(members, space))
    assert refused.value.code == INVALID_REQUEST


def test_absent_members_are_empty() -> None:
    message = jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    assert message.error == message.params == Raw()
