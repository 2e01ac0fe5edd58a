"""Results and errors across the eras."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core.api import Era
from gateway_core.errors import RpcError
from gateway_core.mcp.decoder import decode_response
from gateway_core.upstream.bridge import bridge_error, bridge_result, foreign_error

SERVER = {"name": "radium-mcp-gateway", "version": "1"}
SERVER_INFO = "io.modelcontextprotocol/serverInfo"
LISTS = ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"]


def bridge(method: str, raw: bytes | dict[str, Any], source: Any, target: Any, **more: Any) -> dict[str, Any]:
    data = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    found: dict[str, Any] = json.loads(bridge_result(method, data, from_era=source, to_era=target, **more))
    return found


def test_legacy_to_legacy_keeps_the_bytes() -> None:
    raw = b'{ "content": [], "resultType":"mine",  "x": 123456789012345678901234567890 }'
    assert bridge_result("tools/call", raw, from_era="legacy", to_era="legacy") is raw


def test_values_keep_their_bytes_when_members_are_added() -> None:
    raw = b'{"structuredContent":{"big": 123456789012345678901234567890, "f": 1.10},"content":[]}'
    found = bridge_result("tools/call", raw, from_era="legacy", to_era="modern")
    assert b'{"big": 123456789012345678901234567890, "f": 1.10}' in found
    assert json.loads(found)["resultType"] == "complete"


@pytest.mark.parametrize("method", LISTS)
def test_a_legacy_list_gets_what_modern_lists_must_have(method: str) -> None:
    found = bridge(method, {"tools": [], "ttlMs": 9, "cacheScope": "public"}, "legacy", "modern")
    assert (found["resultType"], found["ttlMs"], found["cacheScope"]) == ("complete", 0, "private")


def test_a_legacy_servers_own_member_of_that_name_is_no_result_type() -> None:
    assert bridge("tools/call", {"content": [], "resultType": "input_required"}, "legacy", "modern") == {
        "content": [],
        "resultType": "complete",
    }


def test_a_legacy_call_gets_the_content_that_modern_results_must_have() -> None:
    structured = {"structuredContent": {"a": 1}}
    assert bridge("tools/call", structured, "legacy", "modern")["content"] == []
    assert bridge("tools/call", structured, "legacy", "legacy") == structured
    assert "content" not in bridge("prompts/get", {"messages": []}, "legacy", "modern")


def test_a_call_gets_no_caching_hints() -> None:
    assert bridge("tools/call", {"content": []}, "legacy", "modern") == {"content": [], "resultType": "complete"}


@pytest.mark.parametrize(
    ("given_ttl", "given_scope", "ttl", "scope"),
    [(5, "public", 5, "public"), (-1, "public", 0, "public"), (1.5, "x", 0, "private"), ("5", None, 0, "private")],
)
def test_a_modern_lists_own_hints_pass_if_they_are_valid(
    given_ttl: Any, given_scope: Any, ttl: int, scope: str
) -> None:
    found = bridge("tools/list", {"ttlMs": given_ttl, "cacheScope": given_scope}, "modern", "modern")
    assert (found["ttlMs"], found["cacheScope"]) == (ttl, scope)


def test_absent_result_type_means_complete() -> None:
    assert bridge("tools/call", {"content": []}, "modern", "modern")["resultType"] == "complete"
    assert bridge("tools/call", {"content": []}, "modern", "legacy") == {"content": []}


@pytest.mark.parametrize("target", ["legacy", "modern"])
@pytest.mark.parametrize("kind", ["zzz", 5, None])
def test_an_unknown_result_type_is_not_passed_on(kind: Any, target: str) -> None:
    with pytest.raises(RpcError) as caught:
        bridge("tools/call", {"resultType": kind, "content": []}, "modern", target)
    assert caught.value.code == -31002
    assert caught.value.data == {"source": "gateway"}


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
def test_a_question_passes_where_it_is_allowed(method: str) -> None:
    asked = {"resultType": "input_required", "inputRequests": {"a": {}}, "requestState": "s"}
    assert bridge(method, asked, "modern", "modern") == asked
    with pytest.raises(RpcError, match="cannot be passed to this client"):
        bridge(method, asked, "modern", "legacy")


def test_a_question_where_none_is_allowed_is_an_error() -> None:
    with pytest.raises(RpcError, match="may not ask for input"):
        bridge("tools/list", {"resultType": "input_required"}, "modern", "modern")


def test_modern_to_legacy_strips_what_legacy_does_not_know() -> None:
    modern = {
        "resultType": "complete",
        "ttlMs": 5,
        "cacheScope": "public",
        "tools": [],
        "_meta": {SERVER_INFO: {"name": "up"}, "com.example/x": 1},
    }
    assert bridge("tools/list", modern, "modern", "legacy", server=json.dumps(SERVER).encode()) == {
        "tools": [],
        "_meta": {"com.example/x": 1},
    }
    only_hop = {"content": [], "_meta": {SERVER_INFO: {"name": "up"}}, "ttlMs": "content of its own"}
    assert bridge("tools/call", only_hop, "modern", "legacy") == {"content": [], "ttlMs": "content of its own"}


@pytest.mark.parametrize("value", [[1, 2], "text", 3, None])
def test_structured_content_that_is_no_object_does_not_reach_legacy_agents(value: Any) -> None:
    result = {"content": [{"type": "text", "text": "1, 2"}], "structuredContent": value, "resultType": "complete"}
    assert bridge("tools/call", result, "modern", "legacy") == {"content": [{"type": "text", "text": "1, 2"}]}
    assert bridge("tools/call", result, "modern", "modern")["structuredContent"] == value


@pytest.mark.parametrize("source", ["legacy", "modern", None])
def test_towards_modern_agents_the_gateway_names_itself(source: Any) -> None:
    raw = {"content": [], "_meta": {SERVER_INFO: {"name": "up"}, "io.modelcontextprotocol/related-task": {"t": 1}}}
    meta = bridge("tools/call", raw, source, "modern", server=json.dumps(SERVER).encode())["_meta"]
    assert meta == {SERVER_INFO: SERVER, "io.modelcontextprotocol/related-task": {"t": 1}}
    assert SERVER_INFO not in bridge("tools/call", raw, source, "modern")["_meta"]


@pytest.mark.parametrize("raw", [b"null", b"5", b"[]", b'"x"', b""])
@pytest.mark.parametrize("source", ["legacy", "modern"])
@pytest.mark.parametrize("target", ["legacy", "modern"])
def test_a_result_that_is_no_object_is_an_error(raw: bytes, source: str, target: str) -> None:
    with pytest.raises(RpcError, match="not an object"):
        bridge("tools/call", raw, source, target)


def test_a_meta_that_is_no_object_is_an_error() -> None:
    with pytest.raises(RpcError, match="_meta"):
        bridge("tools/call", b'{"_meta":5}', "modern", "modern")


def test_an_empty_result_is_a_result() -> None:
    assert bridge("ping", b"{}", "legacy", "modern") == {"resultType": "complete"}
    assert bridge("ping", b" {} ", "modern", "legacy") == {}


KEYS = st.text(max_size=5).filter(lambda key: key not in ("resultType", "_meta", "structuredContent"))
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=5), LEAVES, max_size=3)
ERAS = st.sampled_from(["legacy", "modern"])


@settings(max_examples=60)
@given(st.dictionaries(KEYS, VALUES, max_size=4), ERAS, ERAS)
def test_content_survives_every_bridge(content: dict[str, Any], source: str, target: str) -> None:
    result = {"content": [], **content}
    found = bridge("tools/call", result, source, target)
    found.pop("resultType", None)
    assert found == result


def test_not_found_changes_its_code_with_the_era() -> None:
    legacy = bridge_error(RpcError(-32602, "Resource not found", {"uri": "file:///x"}), "modern", "legacy")
    assert (legacy.code, legacy.data) == (-32002, {"uri": "file:///x"})
    assert bridge_error(RpcError(-32002, "Resource not found", {"uri": "x"}), "modern", "modern").code == -32602
    assert bridge_error(RpcError(-32602, "Unknown tool"), "modern", "legacy").code == -32602
    assert bridge_error(RpcError(-32002, "x"), "modern", "legacy").code == -32002


def test_a_missing_capability_is_the_agents_own_and_legacy_agents_do_not_know_the_error() -> None:
    missing = RpcError(-32021, "declare sampling", {"requiredCapabilities": {"sampling": {}}})
    assert bridge_error(missing, "modern", "modern") is missing
    assert bridge_error(missing, "modern", "legacy").code == -31001


@pytest.mark.parametrize("code", [-32020, -32022])
@pytest.mark.parametrize("target", ["legacy", "modern"])
def test_errors_about_the_gateways_own_hop_do_not_look_like_the_agents(code: int, target: Any) -> None:
    error = bridge_error(RpcError(code, "bad header", {"x": 1}), "modern", target)
    assert error.code == -31001
    assert error.data == {"source": "gateway", "upstreamCode": code}


@pytest.mark.parametrize("code", [-32020, -32021, -32022])
def test_a_legacy_server_may_use_these_codes_after_it_has_executed_a_call(code: int) -> None:
    error = RpcError(code, "the write failed", {"x": 1})
    assert bridge_error(error, "legacy", "legacy") is error
    modern = bridge_error(error, "legacy", "modern")
    assert (modern.code, modern.data) == (-32603, {"x": 1, "upstreamCode": code})


@pytest.mark.parametrize("code", [-32023, -32050, -32099])
def test_codes_that_modern_reserves_are_not_sent_to_modern_agents(code: int) -> None:
    error = bridge_error(RpcError(code, "mine", {"x": 1}), "modern", "modern")
    assert (error.code, error.data) == (-32603, {"x": 1, "upstreamCode": code})
    assert bridge_error(RpcError(code, "mine", "text"), "modern", "modern").data == {
        "data": "text",
        "upstreamCode": code,
    }
    assert bridge_error(RpcError(code, "mine"), "modern", "legacy").code == code


def test_a_url_elicitation_is_not_sent_to_modern_agents() -> None:
    assert bridge_error(RpcError(-32042, "open this"), "modern", "modern").code == -31002
    assert bridge_error(RpcError(-32042, "open this"), "modern", "legacy").code == -32042


@pytest.mark.parametrize("code", [-32603, -32601, -32000, 7, -31003])
def test_all_other_errors_pass_untouched(code: int) -> None:
    error = RpcError(code, "x", {"y": 1})
    assert bridge_error(error, "modern", "modern") is error
    assert bridge_error(error, "modern", "legacy") is error


TASK = {"resultType": "task", "taskId": "t1", "status": "working"}


def test_a_task_passes_to_agents_that_take_tasks_and_is_an_error_for_others() -> None:
    assert bridge("tools/call", TASK, "modern", "modern", tasks=True) == TASK
    for target in ("legacy", "modern"):
        with pytest.raises(RpcError, match="did not say that it can follow"):
            bridge("tools/call", TASK, "modern", target)
    with pytest.raises(RpcError, match="may not make a task of prompts/get"):
        bridge("prompts/get", TASK, "modern", "modern", tasks=True)


def test_an_answer_about_a_task_is_complete_whatever_its_server_says() -> None:
    assert bridge("tasks/get", TASK, "modern", "modern", tasks=True) == {**TASK, "resultType": "complete"}
    with pytest.raises(RpcError, match="may not ask for input"):
        bridge("tasks/get", {"resultType": "input_required"}, "modern", "modern", tasks=True)


def test_a_legacy_servers_task_is_content_of_its_own() -> None:
    assert bridge("tools/call", TASK, "legacy", "modern", tasks=True)["resultType"] == "complete"


GATEWAY = b'{"name":"gateway","version":"1"}'
HOP = '"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}'
USUAL = [
    '{"resultType":"complete","content":[]}',
    '{"resultType":"complete","content":[],"_meta":{}}',
    '{"resultType":"complete","content":[],"_meta":{HOP}}',
    '{"resultType":"complete","content":[],"_meta":{HOP,"own":{"a":[1]}}}',
    '{"resultType":"complete","_meta":{HOP},"content":[]}',
    '{"resultType":"complete","content":[{"type":"text","text":"x","_meta":{HOP}}]}',
    '{"resultType":"complete","content":[{"type":"text","_meta":{"a":1}}],"_meta":{HOP}}',
    '{"resultType":"complete","structuredContent":{"a":1,"_meta":{HOP}}}',
    '{"resultType":"complete","structuredContent":{"a":{"b":1,"_meta":{HOP}}}}',
    '{"resultType":"complete","content":[{"type":"text","text":"\\",\\"_meta\\":{}}"}]}',
    '{"resultType":"complete","content":[],"_meta":{HOP},"resultType":"complete"}',
    '{"resultType":"complete","content":[],"_meta":{HOP}} ',
    '{"resultType":"complete","\\u005fmeta":{HOP},"content":[]}',
    '{"resultType":"complete","content":[],"\\u005fmeta":{},"_meta":{HOP}}',
    '{"resultType":"complete","content":[],"resultTyp\\u0065":"complete"}',
    '{"resultType":"complete","_meta":{HOP}}',
    '{"resultType": "complete","content":[],"_meta":{HOP}}',
    '{"content":[],"resultType":"complete","_meta":{HOP}}',
    '{"resultType":"complete","content":[],"_meta":{"big":"BIG"}}',
]


@pytest.mark.parametrize("raw", USUAL)
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_result_that_was_taken_apart_is_bridged_like_any_other(raw: str, era: Any) -> None:
    whole = raw.replace("HOP", HOP).replace("BIG", "x" * 2000).encode()
    settings: Any = {"from_era": "modern", "to_era": era, "server": GATEWAY}
    made = bridge_result("tools/call", whole, **settings)
    response = b'{"jsonrpc":"2.0","id":7,"result":%b}' % whole
    for data in (response, b'{"result":%b,"jsonrpc":"2.0","id":7}' % whole):
        message = decode_response(data)
        result, members = bytes(message.result), message.result_members
        assert bytes(message.id) == b"7"
        assert json.loads(result) == json.loads(whole)
        if members is not None:
            assert json.loads(bridge_result("tools/call", result, members=members, **settings)) == json.loads(made)
    meta = json.loads(made).get("_meta", {})
    own = {"name": "gateway", "version": "1"} if era == "modern" else None
    assert meta.get("io.modelcontextprotocol/serverInfo") == own


# What only the gateway says


@pytest.mark.parametrize("code", range(-31006, -31000))
@pytest.mark.parametrize("data", [None, {"source": "gateway", "retryAfterMs": 0}, [1]])
def test_the_gateways_codes_are_removed_from_what_upstreams_say(code: int, data: Any) -> None:
    error = foreign_error(RpcError(code, "no", data))
    assert (error.code, error.data["upstreamCode"]) == (-32603, code)
    assert "source" not in error.data


def test_an_upstream_does_not_say_that_it_is_the_gateway() -> None:
    assert foreign_error(RpcError(-32602, "no", {"source": "gateway"})).data is None
    assert foreign_error(RpcError(-32602, "no", {"source": "gateway", "a": 1})).data == {"a": 1}
    untouched = RpcError(-32602, "no", {"source": "elsewhere"})
    assert foreign_error(untouched) is untouched


@pytest.mark.parametrize(
    "key", ['"dev.radium.gateway/outcome"', '"dev.radium.gateway\\/outcome"', '"\\u0064ev.radium.gateway/outcome"']
)
@pytest.mark.parametrize("from_era", ["legacy", "modern"])
@pytest.mark.parametrize("to_era", ["legacy", "modern"])
def test_the_gateways_meta_keys_are_removed_from_what_upstreams_say(key: str, from_era: Era, to_era: Era) -> None:
    raw = b'{"content":[],"_meta":{%b:"unknown","own":1}}' % key.encode()
    made = json.loads(bridge_result("tools/call", raw, from_era=from_era, to_era=to_era))
    assert made["_meta"] == {"own": 1}


def test_the_gateways_own_result_keeps_them() -> None:
    raw = b'{"content":[],"_meta":{"dev.radium.gateway/outcome":"unknown"}}'
    made = json.loads(bridge_result("tools/call", raw, from_era=None, to_era="legacy"))
    assert made["_meta"] == {"dev.radium.gateway/outcome": "unknown"}


def test_a_legacy_result_that_only_speaks_of_them_keeps_its_bytes() -> None:
    raw = b'{ "content": [{"type":"text","text":"dev.radium.gateway/outcome"}], "_meta": {"own": 1} }'
    assert bridge_result("tools/call", raw, from_era="legacy", to_era="legacy") is raw


@pytest.mark.parametrize("to_era", ["legacy", "modern"])
def test_the_gateways_meta_keys_are_removed_from_the_result_of_a_task(to_era: Era) -> None:
    done = {"content": [], "_meta": {"dev.radium.gateway/outcome": "unknown", "own": 1}}
    task = {"resultType": "complete", "taskId": "t", "status": "completed", "result": done}
    made = bridge("tasks/get", task, "modern", to_era)
    assert made["result"] == {"content": [], "_meta": {"own": 1}}
