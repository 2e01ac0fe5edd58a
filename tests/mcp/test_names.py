"""The gateway's own words for the protocol, held against the official SDK's, which it does without when it starts."""

import subprocess
import sys

import mcp.shared.inbound as sdk
import mcp_types.version as sdk_versions
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_core.downstream import admission, http_errors
from gateway_core.downstream.request_headers import check_routing
from gateway_core.errors import RpcError
from gateway_core.http1.head import read_head
from gateway_core.mcp import header_values as headers
from gateway_core.mcp import names as protocol


@pytest.mark.parametrize(
    "name",
    [
        "HANDSHAKE_PROTOCOL_VERSIONS",
        "LATEST_HANDSHAKE_VERSION",
        "LATEST_MODERN_VERSION",
        "MODERN_PROTOCOL_VERSIONS",
    ],
)
def test_versions(name):
    assert getattr(protocol, name) == getattr(sdk_versions, name)


@pytest.mark.parametrize(
    "name", ["MCP_METHOD_HEADER", "MCP_NAME_HEADER", "MCP_PARAM_HEADER_PREFIX", "MCP_PROTOCOL_VERSION_HEADER"]
)
def test_names_of_headers(name):
    assert getattr(protocol, name) == getattr(sdk, name)


def test_what_is_named_in_a_header_and_what_an_error_is_as_a_status():
    assert sdk.NAME_BEARING_METHODS.items() <= protocol.NAME_MEMBERS.items()
    assert dict(sdk.ERROR_CODE_HTTP_STATUS) == http_errors.STATUS_OF


@given(st.text())
@example("")
@example(" a")
@example("a\t")
@example("=?base64?YQ==?=")
@example("größe")
@example("a\nb")
def test_values_are_encoded_as_the_sdk_does(value):
    encoded = headers.encode_header_value(value)
    assert encoded == sdk.encode_header_value(value)
    assert headers.decode_header_value(encoded) == value


@given(st.one_of(st.none(), st.text(), st.from_regex(r"=\?base64\?[A-Za-z0-9+/=]*\?=", fullmatch=True)))
@example("=?base64?YR==?=")
@example("=?base64?YQ?=")
@example("=?base64?/w==?=")
@example("=?base64?Y Q==?=")
def test_values_are_decoded_as_the_sdk_does(value):
    assert headers.decode_header_value(value) == sdk.decode_header_value(value)


VERSION = protocol.PROTOCOL_VERSION_KEY
CAPABILITIES = protocol.CLIENT_CAPABILITIES_KEY
NOW = protocol.LATEST_MODERN_VERSION
GOOD = {"mcp-protocol-version": NOW, "mcp-method": "tools/call", "mcp-name": "add"}
META = {VERSION: NOW, CAPABILITIES: {}}


@pytest.mark.parametrize(
    ("method", "name", "meta", "given_headers"),
    [
        ("tools/call", "add", META, GOOD),
        ("tools/call", "add", META, None),
        ("tools/call", None, META, GOOD),
        ("tools/list", None, META, {**GOOD, "mcp-method": "tools/list"}),
        ("tools/call", "größe", META, {**GOOD, "mcp-name": headers.encode_header_value("größe")}),
        ("tools/call", "größe", META, {**GOOD, "mcp-name": "=?base64?/w==?="}),
        ("tools/call", 5, META, {**GOOD, "mcp-name": "5"}),
        ("tools/call", "other", META, GOOD),
        ("tools/call", "add", META, {**GOOD, "mcp-method": "tools/list"}),
        ("tools/call", "add", META, {key: GOOD[key] for key in ("mcp-protocol-version", "mcp-method")}),
        ("tools/call", "add", META, {key: GOOD[key] for key in ("mcp-protocol-version", "mcp-name")}),
        ("tools/call", "add", META, {key: GOOD[key] for key in ("mcp-method", "mcp-name")}),
        ("tools/call", "add", META, {}),
        ("tools/call", "add", {CAPABILITIES: {}}, GOOD),
        ("tools/call", "add", {VERSION: NOW}, GOOD),
        ("tools/call", "add", {}, None),
        ("tools/call", "add", {**META, VERSION: None}, {**GOOD, "mcp-protocol-version": "None"}),
        ("tools/call", "add", {**META, VERSION: 5}, None),
        ("tools/call", "add", {**META, VERSION: ["2026-07-28"]}, None),
        ("tools/call", "add", {**META, VERSION: "2099-01-01"}, None),
        ("tools/call", "add", {**META, VERSION: "2099-01-01"}, {**GOOD, "mcp-protocol-version": "2099-01-01"}),
        ("tools/call", "add", {**META, VERSION: "2099-01-01"}, GOOD),
        ("tools/call", "add", {**META, VERSION: "2025-11-25"}, {**GOOD, "mcp-protocol-version": "2025-11-25"}),
    ],
)
def test_the_admission_checks_end_where_those_of_the_sdk_do(method, name, meta, given_headers):
    params = {"_meta": meta}
    if name is not None:
        params[protocol.NAME_MEMBERS[method]] = name
    verdict = sdk.classify_inbound_request({"method": method, "params": params}, headers=given_headers)
    if isinstance(verdict, sdk.InboundModernRoute):
        assert admission.check(method, name, meta, meta.get(VERSION), given_headers) == verdict.protocol_version
        return
    with pytest.raises(RpcError) as caught:
        admission.check(method, name, meta, meta.get(VERSION), given_headers)
    assert caught.value.code == verdict.code
    assert (verdict.data or {}).items() <= caught.value.data.items()


def test_a_header_given_twice():
    once = [("Mcp-Method", "a"), ("MCP-Name", "b"), ("accept", "c"), ("accept", "d")]
    for pairs in (once, [*once, ("mcp-name", "b")]):
        twice = sdk.find_duplicated_routing_header(pairs)
        lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
        head = read_head(f"POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
        if twice is None:
            check_routing(head)
            assert (head.fields["mcp-method"], head.fields["mcp-name"]) == ("a", "b")
        else:
            with pytest.raises(RpcError, match=f"the header {twice} is given more than once"):
                check_routing(head)


def test_starting_does_without_the_sdk():
    code = "import sys, gateway_core.gateway, gateway_core.cli.serving.serve\n"
    code += "sys.exit(bool({'mcp', 'mcp_types'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=50, check=False).returncode == 0
