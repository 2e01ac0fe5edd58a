"""Payloads are read and written back unaltered; envelopes are written."""

import pytest

from gateway_core.errors import PARSE_ERROR, RpcError
from gateway_core.mcp import jsonrpc


def test_integers_of_any_size_survive_reading_and_writing() -> None:
    raw = b'{"n":123456789012345678901234567890}'
    assert jsonrpc.encode(jsonrpc.value(raw)) == raw


@pytest.mark.parametrize("raw", [b'{"a":1,"a":2}', b'{"x":[{"a":1,"a":2}]}', b'{"a":1e999}'])
def test_a_reader_refuses_what_it_could_not_write_back(raw: bytes) -> None:
    with pytest.raises(RpcError):
        jsonrpc.value(raw)


def test_a_malformed_error_object_of_an_upstream_is_still_an_error() -> None:
    assert jsonrpc.error_of(b'{"code":"x"}').code == -32603
    assert jsonrpc.error_of(b'{"code":2147483648,"message":"m"}').code == -32603
    assert jsonrpc.error_of(b'{"code":-1%b,"message":"m"}' % (b"0" * 40)).code == -32603
    assert jsonrpc.error_of(b'{"code":-5,"message":"m","data":[1]}').data == [1]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"code":"E42","message":"in words"}', "in words"),
        (b'{"code":-1.0,"message":"in words"}', "in words"),
        (b'"in words"', "in words"),
        (b'{"code":"x","message":7}', "the upstream answered with a malformed error object"),
        (b'{"code":-5}', "the upstream answered with an error without a message"),
    ],
)
def test_an_error_keeps_its_words_and_never_has_none(raw: bytes, message: str) -> None:
    assert jsonrpc.error_of(raw).message == message


def test_an_error_without_a_readable_id_has_none() -> None:
    assert b'"id"' not in jsonrpc.error(None, RpcError(PARSE_ERROR, "bad"))


@pytest.mark.parametrize("code", ["-5", '"x"'])
def test_a_large_error_keeps_its_code_and_the_start_of_its_message(code: str) -> None:
    data = b"[" + b"{}," * 200_000 + b"{}]"
    message = b"m" * 10_000
    found = jsonrpc.error_of(b'{"code":%b,"message":"%b","data":%b}' % (code.encode(), message, data))
    assert found.code == (-5 if code == "-5" else -32603)
    assert found.data is None
    assert found.message.startswith("m" * 4096 + " (the error has 6")
    assert len(found.message) < 5000


@pytest.mark.parametrize("raw", [b"[" + b"1," * 200_000 + b"1]", b'"' + b"x" * 300_000 + b'"', b"{" + b" " * 300_000])
def test_a_large_error_that_is_malformed_is_an_error(raw: bytes) -> None:
    found = jsonrpc.error_of(raw)
    assert found.code == -32603
    assert found.data is None
    assert len(found.message) < 5000
