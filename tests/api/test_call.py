"""Calls and results as plugins get them: decoded once, read-only, rewritten by copies."""

from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from gateway_core import Call, CallResult, Era, Outcome, hookimpl
from gateway_core.api import Principal
from gateway_core.api.call import unknown_name
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.mcp.names import PLUGIN_METHODS
from gateway_core.testing import FakeUpstream, make_call, make_result, run_call


def call_of(arguments: bytes = b"", meta: bytes = b"") -> Call:
    return Call("tools/call", "echo", Principal("a"), "modern", "exchange", arguments, meta)


@pytest.mark.parametrize("member", ["arguments", "meta"])
def test_a_payload_is_decoded_once_and_read_only(member: str) -> None:
    call = call_of(b'{"a":[1]}', b'{"a":[1]}')
    value = getattr(call, member)
    assert value == {"a": [1]}
    assert getattr(call.seen_by("p"), member) is value
    assert getattr(call.replace(name="other"), member) is value
    with pytest.raises(TypeError, match="read-only"):
        value["a"].append(2)
    with pytest.raises(TypeError, match="read-only"):
        getattr(call_of(), member)["a"] = 1


@pytest.mark.parametrize("member", ["arguments", "meta"])
def test_a_payload_that_is_no_object_is_refused(member: str) -> None:
    with pytest.raises(RpcError) as refused:
        getattr(call_of(b"[1]", b"[1]"), member)
    assert refused.value.code == INVALID_PARAMS


def test_the_content_of_a_result_is_decoded_once_and_read_only() -> None:
    result = make_result()
    assert result.content is result.content
    with pytest.raises(TypeError, match=r"result\.replace"):
        result.content["content"][0]["text"] = "changed"
    with pytest.raises(TypeError, match="read-only"):
        CallResult.failed(RpcError(-1, "no")).content["a"] = 1


def test_a_tools_definition_is_read_only() -> None:
    tool = make_call(annotations={"readOnlyHint": True}).tool
    assert tool is not None
    with pytest.raises(TypeError, match="read-only"):
        tool.definition["inputSchema"]["type"] = "array"  # type: ignore[index]
    with pytest.raises(TypeError, match="read-only"):
        tool.annotations["readOnlyHint"] = False  # type: ignore[index]


def test_a_rewrite_copies_what_it_is_given() -> None:
    arguments: dict[str, Any] = {"path": ["/safe"]}
    call = call_of(b'{"path":"/etc"}').replace(arguments=arguments)
    content: dict[str, Any] = {"content": []}
    results = [make_result().replace(content), CallResult.of(content)]
    arguments["path"].append("/etc")
    content["content"].append("more")
    assert call.arguments == {"path": ["/safe"]}
    assert call.raw_arguments == b'{"path":["/safe"]}'
    assert [result.content for result in results] == [{"content": []}] * 2


@pytest.mark.parametrize(
    ("result", "is_error", "outcome"),
    [
        (CallResult.text("fine"), True, Outcome.TOOL_ERROR),
        (CallResult.text("wrong", is_error=True), False, Outcome.OK),
        (CallResult.text("wrong", is_error=True), True, Outcome.TOOL_ERROR),
        (CallResult.failed(RpcError(-1, "down"), Outcome.UNAVAILABLE), False, Outcome.OK),
        (CallResult.failed(RpcError(-1, "late"), Outcome.UNKNOWN), True, Outcome.TOOL_ERROR),
        (CallResult.refused("no"), False, Outcome.OK),
        (CallResult(b'{"resultType":"input_required"}', outcome=Outcome.ASKED), False, Outcome.ASKED),
        (CallResult(b'{"isError":true}', outcome=Outcome.UNKNOWN), True, Outcome.UNKNOWN),
    ],
)
def test_the_outcome_of_a_rewritten_result_is_that_of_its_content(
    result: CallResult, is_error: bool, outcome: Outcome
) -> None:
    made = result.replace({"content": [], "isError": is_error})
    assert (made.outcome, made.error) == (outcome, None)


def test_a_rewrite_may_be_made_of_what_was_read() -> None:
    call = call_of(b'{"a":1,"b":[2]}')
    assert call.replace(arguments={**call.arguments, "a": 3}).raw_arguments == b'{"a":3,"b":[2]}'


@pytest.mark.parametrize("wrong", [[1, 2], "text", MappingProxyType({}), None, Principal("a")])
def test_what_is_no_dict_cannot_be_sent(wrong: Any) -> None:
    with pytest.raises(TypeError, match="must be a dict, not a "):
        make_result().replace(wrong)
    with pytest.raises(TypeError, match="must be a dict, not a "):
        CallResult.of(wrong)
    if wrong is not None:
        with pytest.raises(TypeError, match="must be a dict, not a "):
            call_of().replace(arguments=wrong)


def test_each_plugin_has_a_view_with_its_state_and_rewrites_share_it() -> None:
    call = call_of()
    one, two = call.seen_by("one"), call.seen_by("two")
    one.state["who"] = "one"
    two.state["who"] = "two"
    assert one.seen_by("one") is one
    assert (one.state, two.state, call.state) == ({"who": "one"}, {"who": "two"}, {})
    assert one.replace(name="x").with_target(None, None).state is one.state
    assert two.seen_by("one").state is one.state
    assert two.replace(arguments={}).is_rewrite_of(one)
    assert not call_of().is_rewrite_of(call)


def test_a_call_says_what_its_name_names() -> None:
    kinds = {
        "tools/call": "tool",
        "tasks/get": "tool",
        "prompts/list": "prompt",
        "resources/subscribe": "resource",
        "resources/templates/list": "template",
        "completion/complete": "prompt",
    }
    assert {method: make_call("x", method=method).kind for method in kinds} == kinds
    assert replace(make_call("x", method="completion/complete"), of_prompt=False).kind == "template"


def test_a_renamed_call_is_served_by_no_upstream_until_it_is_looked_up_again() -> None:
    call = make_call("a__echo", upstreams=("a",), original_name="echo")
    assert call.replace(arguments={"x": 1}).upstreams == ("a",)
    renamed = call.replace(name="b__echo")
    assert (renamed.upstreams, renamed.original_name) == ((), "b__echo")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_hidden_name_gets_the_answer_of_one_that_no_upstream_serves(era: Era) -> None:
    class Hiding:
        methods = PLUGIN_METHODS

        @hookimpl
        def before_call(self, call: Call) -> CallResult:
            return CallResult.unknown(call)

    for method in ("tools/call", "prompts/get", "resources/read", "resources/subscribe"):
        name = "file:///x" if method.startswith("resources") else "x"
        hidden = await run_call(make_call(name, method=method, era=era), FakeUpstream(), Hiding)
        assert hidden.error is not None
        unknown = unknown_name(make_call(name, method=method, era=era, known=False))
        assert repr(hidden.error) == repr(unknown)
        assert hidden.outcome == "refused"
