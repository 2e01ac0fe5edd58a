"""Messages: what is refused, that what passes is passed on unaltered, and that reading takes linear time."""

import gc
import json
import time
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.errors import INVALID_REQUEST, PARSE_ERROR, RpcError
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.decoder import MAX_DEPTH, check_depth, decode_request, decode_response
from gateway_core.mcp.passes import MAX_UNITS

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
        (request(b"[1]"), INVALID_REQUEST),
        (request(b"[[]]"), INVALID_REQUEST),
        (request(b"0"), INVALID_REQUEST),
        (request(b'""'), INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":null,"result":{}}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":null,"params":null}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","result":{}}', INVALID_REQUEST),
        (request(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), INVALID_REQUEST),
        (request(b'{"a":' + b"[" * 65 + b"]" * 65 + b"}"), INVALID_REQUEST),
    ],
)
def test_what_is_no_message_is_refused_with_its_code(data: bytes, code: int) -> None:
    with pytest.raises(RpcError) as caught:
        decode_request(data)
    assert caught.value.code == code
    assert caught.value.data == {"source": "gateway"}


@pytest.mark.parametrize("params", [b"null", b"[]", b" null ", b"[\n]"])
def test_empty_params_are_absent(params: bytes) -> None:
    message = decode_request(request(params))
    assert (message.is_request, bytes(message.id), bytes(message.params), message.members) == (True, b"1", b"", {})


@pytest.mark.parametrize("params", [b"null", b"[]", b"{}"])
def test_a_notification_and_an_error_may_have_the_id_null(params: bytes) -> None:
    data = b'{"jsonrpc":"2.0","id":null,"method":"notifications/cancelled","params":%b}' % params
    notification = decode_request(data)
    assert notification.is_notification
    assert not bytes(notification.id)
    error = decode_request(b'{"id":null,"jsonrpc":"2.0","error":{"code":-32700,"message":"m"}}')
    assert (error.is_response, error.failed, bytes(error.id)) == (True, True, b"")


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
    ],
)
def test_members_that_parsers_read_differently_are_refused(data: bytes) -> None:
    with pytest.raises(RpcError, match=r"twice|wrong case") as caught:
        decode_request(data)
    assert caught.value.code == INVALID_REQUEST


def test_the_names_of_the_envelope_are_free_inside_arguments() -> None:
    params = b'{"name":"a","arguments":{"name":1,"Name":2,"method":{"id":[1]}}}'
    assert bytes(decode_request(request(params)).params) == params


def test_nesting_counts_brackets_but_not_those_in_strings() -> None:
    inside = b'{"a":"' + b"[" * 1000 + b'","b":' + b"[" * 60 + b"]" * 60 + b"}"
    assert decode_request(request(inside)).method == "tools/call"


def test_wide_is_not_deep() -> None:
    wide = b'{"a":[' + b",".join([b"[]"] * 5000) + b"]}"
    assert decode_request(request(wide)).method == "tools/call"


def test_ids_keep_their_type() -> None:
    number, string = decode_request(request(request_id=b"1")), decode_request(request(request_id=b'"1"'))
    assert jsonrpc.result(number.id, b"{}") == b'{"jsonrpc":"2.0","id":1,"result":{}}'
    assert jsonrpc.result(string.id, b"{}") == b'{"jsonrpc":"2.0","id":"1","result":{}}'


def test_kinds_of_messages_are_told_apart() -> None:
    assert decode_request(request()).is_request
    assert decode_request(b'{"jsonrpc":"2.0","method":"notifications/initialized"}').is_notification
    assert decode_request(b'{"jsonrpc":"2.0","id":1,"result":{}}').is_response
    assert decode_request(b'{"jsonrpc":"2.0","error":{"code":1,"message":"x"}}').is_response


@given(JSON)
def test_payloads_pass_through_without_newlines_and_unaltered(value: object) -> None:
    pretty = json.dumps({"value": value}, indent=2).encode()
    message = decode_request(request(pretty))
    passed = bytes(message.params)
    assert b"\n" not in passed
    assert json.loads(passed) == {"value": value}


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
    assert jsonrpc.value(decode_response(data).params) == {"t": read}


def test_a_flood_of_half_surrogate_pairs_is_not_mended() -> None:
    """Looking at each would keep the event loop for a second."""
    with pytest.raises(RpcError, match="not valid JSON"):
        decode_response(request(b'{"t":"%b"}' % (rb"\ud83d" * (MAX_UNITS + 1))))
    many = rb"\u00e9" * (MAX_UNITS - 1) + rb"\ud83d"
    read = jsonrpc.value(decode_response(request(b'{"t":"%b"}' % many)).params)
    assert read == {"t": "\u00e9" * (MAX_UNITS - 1) + "\ufffd"}


def test_members_that_are_null_are_absent() -> None:
    data = b'{"jsonrpc":"2.0","id":1,"method":null,"params":null,"result":{"a":1},"error":null}'
    message = decode_response(data)
    assert message.is_response
    assert not message.failed
    assert bytes(message.result) == b'{"a":1}'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":"x"}', "params"),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":7}', "params"),
        (b'{"jsonrpc":"2.0","id":"%b","method":"m"}' % (b"x" * 2000), "1024 bytes"),
        (b'{"jsonrpc":null,"id":1,"method":"m"}', "jsonrpc"),
        (b'{"jsonrpc":"2.0","id":1,"method":null}', "neither a request"),
    ],
)
def test_the_error_names_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(RpcError, match=reason):
        decode_request(data)


def test_a_number_of_any_length_passes_whatever_else_is_in_the_message() -> None:
    params = b'{"arguments":{"a":1%b,"b":"\\u0041"}}' % (b"0" * 5000)
    assert bytes(decode_request(request(params)).params) == params
    with pytest.raises(RpcError, match="digits"):
        jsonrpc.value(params)


@pytest.mark.parametrize("text", ["", "x" * 10_000, "[{" * 200 + "x" * 10_000])
@pytest.mark.parametrize("depth", [MAX_DEPTH - 3, MAX_DEPTH + 1])
def test_depth_is_bounded_in_large_messages_and_in_those_with_brackets_in_strings(text: str, depth: int) -> None:
    nested = b"[" * depth + b'"%b"' % text.encode() + b"]" * depth
    data = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":%b}}' % nested
    if depth > MAX_DEPTH:
        with pytest.raises(RpcError, match="nested deeper"):
            decode_request(data)
    else:
        assert decode_request(data).method == "m"


@given(
    st.dictionaries(st.sampled_from(["name", "arguments", "_meta", "other", "é", "Name"]), st.integers(), max_size=4),
    st.lists(st.sampled_from(['"name":1', '"name":22', '"Name":1', " ", '"other":3', '"n\\u0061me":1']), max_size=2),
    st.sampled_from([(",", ":"), (", ", ": "), (" , ", ":")]),
)
def test_names_are_refused_exactly_where_a_reader_of_pairs_refuses_them(
    params: dict[str, int], more: list[str], separators: tuple[str, str]
) -> None:
    comma, colon = separators
    own = [f"{json.dumps(key, ensure_ascii=False)}{colon}{value}" for key, value in params.items()]
    members = comma.join([*own, *(piece for piece in more if piece.strip())])
    members += "".join(piece for piece in more if not piece.strip())
    pairs = json.loads(f"{{{members}}}", object_pairs_hook=list)
    names = [name for name, _ in pairs]
    wrong = len(set(names)) < len(names) or "Name" in names or "\\u" in members
    data = f'{{"jsonrpc":"2.0","id":1,"method":"m","params":{{{members}}}}}'.encode()
    try:
        decode_request(data)
    except RpcError:
        assert wrong
    else:
        assert not wrong


@pytest.mark.parametrize("name", ["argument\u017f", "ARGUMENTS", "_META", "tas\u212aId", "Uri"])
def test_a_name_that_folds_to_a_watched_one_is_refused(name: str) -> None:
    for ascii_only in (True, False):
        data = request(json.dumps({name: {}}, ensure_ascii=ascii_only).encode())
        with pytest.raises(RpcError, match="wrong case"):
            decode_request(data)


def test_names_in_other_scripts_pass_however_they_are_written() -> None:
    for ascii_only in (True, False):
        data = request(json.dumps({"имя": 1, "😀": 2}, ensure_ascii=ascii_only).encode())
        assert set(decode_request(data).members) == {"имя", "😀"}


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","id":1,"id":2,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":{},"result":{"a":1}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""},"error":{"code":2,"message":""}}',
        b'{"jsonrpc": "2.0", "id": 1, "result": {}, "result": {}}',
        b'{"jsonrpc":"2.0","id":1,"Result":{},"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}',
    ],
)
@pytest.mark.parametrize("decode", [decode_request, decode_response])
def test_a_response_that_gives_a_member_twice_is_malformed(data: bytes, decode: Callable[[bytes], object]) -> None:
    with pytest.raises(RpcError, match=r"twice|wrong case|both a result and an error"):
        decode(data)


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf"])
@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"BAD","params":{}}',
        b'{"jsonrpc":"2.0","id":"BAD","method":"m","params":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"BAD":1}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":{"BAD":["BAD"]}}}',
        b'{"BAD":1}',
        b'{"jsonrpc":"BAD","id":1,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"BAD":1}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"a":["BAD"]}}',
        b'["BAD"]',
    ],
)
@pytest.mark.parametrize("decode", [decode_request, decode_response])
def test_bytes_that_are_no_text_are_an_error_wherever_they_stand(
    data: bytes, bad: bytes, decode: Callable[[bytes], object]
) -> None:
    with pytest.raises(RpcError) as caught:
        decode(data.replace(b"BAD", bad))
    assert caught.value.code == PARSE_ERROR


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("members", ['{"a":1,"d":null}', '{"é":{"b":[1,2]},"c":"\\u00e4ä","d":null}', "{}"])
def test_a_result_is_cut_out_as_it_came_from_a_canonical_response(members: str, size: int) -> None:
    members = members.replace("null", json.dumps("x" * size))
    for form in (
        '{"jsonrpc":"2.0","id":7,"result":RESULT}',
        '{"result":RESULT,"jsonrpc":"2.0","id":7}',
        '{"id":7,"jsonrpc":"2.0","result":RESULT}',
    ):
        message = decode_response(form.replace("RESULT", members).encode())
        assert (bytes(message.id), bytes(message.result)) == (b"7", members.encode())
        assert message.result_members is not None
        assert {name: json.loads(bytes(raw)) for name, raw in message.result_members.items()} == json.loads(members)


@pytest.mark.parametrize(
    "data",
    [
        '{"jsonrpc": "2.0", "id": 7, "result": {"a": [1, "b c"]}}',
        '{\n  "jsonrpc": "2.0",\n  "id": 7,\n  "result": {"a": [1,\r\n"b c"]}\n}\n',
        '{"jsonrpc":"2.0","id":7,"result":{"a": [1 ,"b c"]}}',
        ' {"result":{"a":[1,"b c"]},"jsonrpc":"2.0","id":7} ',
    ],
)
def test_white_space_makes_no_other_response(data: str) -> None:
    message = decode_response(data.encode())
    assert bytes(message.result) == b'{"a":[1,"b c"]}'
    assert message.result_members is not None


@pytest.mark.parametrize(
    "data",
    [
        '{"jsonrpc":"2.0","id":7,"result":{"a":1,"a":2}}',
        '{"jsonrpc":"2.0","id":7,"result":{"\\u0061":1}}',
        '{"jsonrpc":"2.0","id":-0,"result":{"a":1}}',
        '{"jsonrpc":"2.0","id":7,"result":{"a":1},"extra":1}',
        '{"jsonrpc":"2.0","id":"7","result":{"a":1}}',
        '{"jsonrpc":"2.0","id":7,"result":{"a":1},"error":null}',
    ],
)
def test_the_members_of_a_result_are_known_only_where_none_can_hide(data: str) -> None:
    message = decode_response(data.encode())
    assert message.is_response
    assert message.result_members is None


NESTED = st.recursive(
    st.text('[]{}"\\\nbrtu/ é', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\\n', max_size=3), inner, max_size=3),
    max_leaves=30,
)


@given(NESTED, st.integers(MAX_DEPTH - 12, MAX_DEPTH + 2), st.booleans())
def test_depth_is_that_of_brackets_outside_of_strings(value: object, around: int, ascii_only: bool) -> None:
    def depth(value: object) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    for _ in range(around):
        value = [value, '[[{"\\'] if around % 2 else {'}"': value}
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    if depth(value) > MAX_DEPTH:
        with pytest.raises(RpcError, match="nested deeper"):
            check_depth(data)
    else:
        check_depth(data)


@given(NESTED, st.integers(MAX_DEPTH - 12, MAX_DEPTH + 2), st.sampled_from(["{}", '{"a":%s}', '[{"a":%s}]', "[%s]"]))
def test_depth_counts_from_the_envelope_wherever_it_is(value: object, around: int, place: str) -> None:
    for _ in range(around):
        value = [value, '[[{"\\']
    text = json.dumps(value, separators=(",", ":"))
    params = '{"a":1,"b":%s}' % (place.replace("%s", text) if "%s" in place else text)
    for envelope, decode in (
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":%b}', decode_request),
        (b'{"jsonrpc":"2.0","id":1,"result":%b}', decode_response),
    ):
        data = envelope % params.encode()
        try:
            check_depth(data)
        except RpcError:
            with pytest.raises(RpcError, match="nested deeper"):
                decode(data)
        else:
            decode(data)


SIZE = 50_000
BODIES = {
    "brackets": b",".join([b"[]"] * SIZE),
    "braces": b",".join([b"{}"] * SIZE),
    "deep": b",".join([b"[" * 50 + b"]" * 50] * (SIZE // 50)),
    "in turns": b",".join([b"[" * 50 + b"]" * 50 + b",1" * 50] * (SIZE // 50)),
    "deep objects": b",".join([b'{"":' * 50 + b"0" + b"}" * 50] * (SIZE // 50)),
    "quotes": b",".join([b'""'] * SIZE),
    "escaped quotes": b'"' + rb"\"[" * SIZE + b'"',
    "backslashes": b'"' + rb"\\[" * SIZE + b'"',
    "both": b'"' + rb"\\\"[" * SIZE + b'"',
    "escapes": b",".join([rb'"\u00e9\n["'] * SIZE),
    "one long text": b'"' + b"x" * 4 * SIZE + b'"',
    "not ASCII": b'"' + "x\u4e2d\u00e9".encode() * SIZE + b'"',
    "spaces": b" " * 4 * SIZE + b"1",
    "line breaks": b"\n" * 4 * SIZE + b"1",
    "numbers": b",".join([b"1"] * SIZE),
    "long numbers": b",".join([b"9" * 60] * (SIZE // 30)),
    "repeated keys": b"{%b}" % b",".join([b'"a":[]'] * SIZE),
    "keys": b"{%b}" % b",".join(b'"%d":1' % number for number in range(SIZE)),
    "rows with spaces": json.dumps([{"id": n, "name": "n", "tags": ["a"]} for n in range(SIZE // 20)]).encode(),
    "rows inside a text": json.dumps(json.dumps([{"id": n, "tags": ["a"]} for n in range(SIZE // 10)])).encode(),
}
MARGIN = 1.5
"""Both times are taken in one process, of some milliseconds each, in turns, the least of several counts: what is left
of the noise is below a third. msgspec takes one pass over the bytes for a long text, and so does each of our steps."""


def relative(work: Callable[[bytes], object], data: bytes) -> float:
    """How often the time that msgspec takes for the same bytes."""
    ours: list[float] = []
    plain: list[float] = []
    gc.disable()  # which would look again and again at what msgspec makes
    try:
        for _ in range(7):
            for decode, found in ((work, ours), (msgspec.json.decode, plain)):
                begun = time.process_time()
                try:
                    decode(data)
                except RpcError as error:
                    assert "twice" in error.message or "members" in error.message  # noqa: PT017 - after all was read
                found.append(time.process_time() - begun)
    finally:
        gc.enable()
    return min(ours) / min(plain)


@pytest.mark.parametrize("place", ["params", "arguments", "deep", "unknown"])
@pytest.mark.parametrize("kind", BODIES)
def test_no_body_takes_more_than_three_times_what_msgspec_takes(kind: str, place: str) -> None:
    many = b"[%b]" % b",".join([b"[]"] * 100)  # so that the depth has to be counted
    params = {
        "params": b'{"a":[%b],"b":%b}',
        "arguments": b'{"name":"a","arguments":{"a":[%b],"b":%b}}',
        "deep": b'{"a":[[[[[[[%b,%b]]]]]]]}',
        "unknown": b'{"a":[%b]},"unknown":[%b]',
    }[place]
    passes = 4 if place == "unknown" else 3  # no client writes such a member; it costs another pass
    assert relative(decode_request, request(params % (BODIES[kind], many))) <= passes * MARGIN


@pytest.mark.parametrize("kind", BODIES)
def test_no_answer_takes_more_than_three_times_what_msgspec_takes(kind: str) -> None:
    result = b'{"content":[[%b]],"b":[%b]}' % (BODIES[kind], b",".join([b"[]"] * 100))
    assert relative(decode_response, b'{"jsonrpc":"2.0","id":1,"result":%b}' % result) <= 3 * MARGIN


@pytest.mark.parametrize("where", ["envelope", "params", "result"])
def test_a_message_with_a_great_many_members_is_refused(where: str) -> None:
    members = ",".join(f'"m{number}":1' for number in range(9000))
    data = {
        "envelope": f'{{"jsonrpc":"2.0","id":1,"method":"a",{members}}}',
        "params": f'{{"jsonrpc":"2.0","id":1,"method":"a","params":{{{members}}}}}',
        "result": f'{{"jsonrpc":"2.0","id":1,"result":{{{members}}}}}',
    }[where]
    with pytest.raises(RpcError, match="more than 1024 members") as caught:
        (decode_response if where == "result" else decode_request)(data.encode())
    assert caught.value.code == INVALID_REQUEST


def test_arguments_may_have_any_number_of_members() -> None:
    arguments = ",".join(f'"m{number}":1' for number in range(9000))
    assert decode_request(request(f'{{"name":"a","arguments":{{{arguments}}}}}'.encode())).is_request


@pytest.mark.parametrize("name", ["a", "é"])
@pytest.mark.parametrize("ending", ["", ',"%s1":1', ',"\\u0061":1'])
def test_many_names_take_linear_time(name: str, ending: str) -> None:
    members = ",".join(f'"{name}{number}":1' for number in range(30_000))
    more = ending.replace("%s", name)
    assert relative(decode_request, request(f"{{{members}{more}}}".encode())) <= 3 * MARGIN
