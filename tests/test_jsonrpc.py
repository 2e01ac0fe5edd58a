"""Envelopes: what is refused, and that what passes is passed on unaltered."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core import jsonrpc
from gateway_core.errors import INVALID_REQUEST, PARSE_ERROR, RpcError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def request(params: bytes = b"{}", request_id: bytes = b"1") -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":%b}' % (request_id, params)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{oops", PARSE_ERROR),
        (b"", PARSE_ERROR),
        (request() + b"x", PARSE_ERROR),
        (request(b'{"a":"\xff"}'), PARSE_ERROR),
        (request(b'{"a":NaN}'), PARSE_ERROR),
        (request(b'{"a":"x\ny"}'), PARSE_ERROR),
        (request(b'{"a":"\\ud800"}'), PARSE_ERROR),
        (b"[" + request() + b"]", INVALID_REQUEST),
        (b'"text"', INVALID_REQUEST),
        (b"{}", INVALID_REQUEST),
        (b'{"id":1,"method":"ping"}', INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', INVALID_REQUEST),
        (request(request_id=b"null"), INVALID_REQUEST),
        (request(request_id=b"1.5"), INVALID_REQUEST),
        (request(request_id=b"true"), INVALID_REQUEST),
        (request(request_id=b"{}"), INVALID_REQUEST),
        (request(request_id=b'"' + b"x" * 2000 + b'"'), INVALID_REQUEST),
        (request(b"[]"), INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","result":{}}', INVALID_REQUEST),
        (request(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), INVALID_REQUEST),
        (request(b'{"a":' + b"[" * 65 + b"]" * 65 + b"}"), INVALID_REQUEST),
    ],
)
def test_what_is_no_message_is_refused_with_its_code(data: bytes, code: int) -> None:
    with pytest.raises(RpcError) as caught:
        jsonrpc.decode(data)
    assert caught.value.code == code
    assert caught.value.data == {"source": "gateway"}


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"m\\u0065thod":"tools/list","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{},"arguments":{"a":1}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"ARGUMENTS":{}}}',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"argument\u017f":{}}}'.encode(),
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"argument\u017f": {}}}'.encode(),
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "param\u017f": {}}'.encode(),
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"ta\u017f\u212aId": "1"}}'.encode(),
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"argument\\u017f": {}}}',
    ],
)
def test_members_that_parsers_read_differently_are_refused(data: bytes) -> None:
    with pytest.raises(RpcError, match=r"twice|wrong case") as caught:
        jsonrpc.decode(data)
    assert caught.value.code == INVALID_REQUEST


def test_the_names_of_the_envelope_are_free_inside_arguments() -> None:
    params = b'{"name":"a","arguments":{"name":1,"Name":2,"method":{"id":[1]}}}'
    assert bytes(jsonrpc.decode(request(params)).params) == params


def test_nesting_counts_brackets_but_not_those_in_strings() -> None:
    inside = b'{"a":"' + b"[" * 1000 + b'","b":' + b"[" * 60 + b"]" * 60 + b"}"
    assert jsonrpc.decode(request(inside)).method == "tools/call"


def test_wide_is_not_deep() -> None:
    wide = b'{"a":[' + b",".join([b"[]"] * 5000) + b"]}"
    assert jsonrpc.decode(request(wide)).method == "tools/call"


def test_ids_keep_their_type() -> None:
    number, string = jsonrpc.decode(request(request_id=b"1")), jsonrpc.decode(request(request_id=b'"1"'))
    assert jsonrpc.result(number.id, b"{}") == b'{"jsonrpc":"2.0","id":1,"result":{}}'
    assert jsonrpc.result(string.id, b"{}") == b'{"jsonrpc":"2.0","id":"1","result":{}}'


def test_kinds_of_messages_are_told_apart() -> None:
    assert jsonrpc.decode(request()).is_request
    assert jsonrpc.decode(b'{"jsonrpc":"2.0","method":"notifications/initialized"}').is_notification
    assert jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"result":{}}').is_response
    assert jsonrpc.decode(b'{"jsonrpc":"2.0","error":{"code":1,"message":"x"}}').is_response


@given(JSON)
def test_payloads_pass_through_without_newlines_and_unaltered(value: object) -> None:
    pretty = json.dumps({"value": value}, indent=2).encode()
    message = jsonrpc.decode(request(pretty))
    passed = bytes(message.params)
    assert b"\n" not in passed
    assert json.loads(passed) == {"value": value}


def test_integers_of_any_size_survive_reading_and_writing() -> None:
    raw = b'{"n":123456789012345678901234567890}'
    assert jsonrpc.encode(jsonrpc.value(raw)) == raw


@pytest.mark.parametrize("raw", [b'{"a":1,"a":2}', b'{"x":[{"a":1,"a":2}]}', b'{"a":1e999}'])
def test_a_reader_refuses_what_it_could_not_write_back(raw: bytes) -> None:
    with pytest.raises(RpcError):
        jsonrpc.value(raw)


def test_a_malformed_error_object_of_an_upstream_is_still_an_error() -> None:
    assert jsonrpc.error_of(b'{"code":"x"}').code == -32603
    assert jsonrpc.error_of(b'{"code":-5,"message":"m","data":[1]}').data == [1]


def test_an_error_without_a_readable_id_has_none() -> None:
    assert b'"id"' not in jsonrpc.error(None, RpcError(PARSE_ERROR, "bad"))


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rb"\ud83d", "\ufffd"),
        (rb"\udc00\ud83d", "\ufffd\ufffd"),
        (rb"\uD83D\uDE00", "\U0001f600"),
        (rb"\\ud83d", "\\ud83d"),
        (rb"\\\ud83d!", "\\\ufffd!"),
        (rb"\"\n\ud800\u0041", '"\n\ufffdA'),
    ],
)
def test_half_surrogate_pairs_are_mended_where_that_is_asked_for(sent: bytes, read: str) -> None:
    data = request(b'{"t":"%b"}' % sent)
    assert jsonrpc.value(jsonrpc.decode(data, mend=True).params) == {"t": read}


def test_a_number_of_any_length_passes_whatever_else_is_in_the_message() -> None:
    params = b'{"arguments":{"a":1%b,"b":"\\u0041"}}' % (b"0" * 5000)
    assert bytes(jsonrpc.decode(request(params)).params) == params
    with pytest.raises(RpcError, match="digits"):
        jsonrpc.value(params)


@pytest.mark.parametrize("text", ["", "x" * 10_000, "[{" * 200 + "x" * 10_000])
@pytest.mark.parametrize("depth", [jsonrpc.MAX_DEPTH - 3, jsonrpc.MAX_DEPTH + 1])
def test_depth_is_bounded_in_large_messages_and_in_those_with_brackets_in_strings(text: str, depth: int) -> None:
    nested = b"[" * depth + b'"%b"' % text.encode() + b"]" * depth
    data = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":%b}}' % nested
    if depth > jsonrpc.MAX_DEPTH:
        with pytest.raises(RpcError, match="nested deeper"):
            jsonrpc.decode(data)
    else:
        assert jsonrpc.decode(data).method == "m"


@given(
    st.dictionaries(st.sampled_from(["name", "arguments", "_meta", "other", "é", "Name"]), st.integers(), max_size=4),
    st.lists(st.sampled_from(['"name":1', '"name":22', '"Name":1', " ", '"other":3', '"n\\u0061me":1']), max_size=2),
)
def test_the_quick_look_at_keys_lets_nothing_pass_that_the_close_one_refuses(
    params: dict[str, int], more: list[str]
) -> None:
    own = [f"{json.dumps(key, ensure_ascii=False)}:{value}" for key, value in params.items()]
    members = ",".join([*own, *(piece for piece in more if piece.strip())]) + "".join(p for p in more if not p.strip())
    data = f'{{"jsonrpc":"2.0","id":1,"method":"m","params":{{{members}}}}}'.encode()

    def refused(check: Any) -> bool:
        try:
            check(data)
        except RpcError:
            return True
        return False

    assert refused(jsonrpc.decode) == refused(jsonrpc._check_keys)


@pytest.mark.parametrize("params", [None, jsonrpc.Raw()])
def test_a_notification_without_params_is_json(params: jsonrpc.Raw | None) -> None:
    assert jsonrpc.notification("a/b", params) == b'{"jsonrpc":"2.0","method":"a/b"}'
