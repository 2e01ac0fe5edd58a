"""The kit makes every argument of every hook."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path

import gateway_core.testing
from gateway_core import Answer, CallResult, Decision, Principal, UpstreamState
from gateway_core.hooks import HOOKS
from gateway_core.testing import (
    FakeUpstream,
    make_authentication_ended,
    make_begun,
    make_call,
    make_call_ended,
    make_known,
    make_result,
    make_upstream,
    make_upstream_changed,
    run_call,
    run_hook,
)
from tests.testing.test_running import MAKERS, of

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-plugin.md"


def test_there_is_a_maker_for_every_argument_of_every_hook() -> None:
    assert {argument for arguments in HOOKS.values() for argument in arguments} == set(MAKERS)
    for hook, arguments in HOOKS.items():
        for number in range(max(len(MAKERS[name]) for name in arguments)):
            given = [MAKERS[name][number % len(MAKERS[name])] for name in arguments]
            assert run_hook(of(hook, None), hook, *given) is None


def test_the_page_for_authors_has_every_name_of_the_kit_in_one_table() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("| helper | makes or does |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(?:await )?(\w+)", table, re.MULTILINE)
    assert sorted(rows) == sorted(gateway_core.testing.__all__)
    for name, rest in re.findall(r"^\| `(?:await )?(\w+)\((.*?)\)`", table, re.MULTILINE):
        known = inspect.signature(getattr(gateway_core.testing, name)).parameters
        assert set(re.findall(r"(\w+)=…", rest)) <= set(known), name


def test_events_are_those_of_a_call_an_authentication_and_an_upstream() -> None:
    call = make_call("add", principal="me", session="s")
    ended = make_call_ended(call, make_result(upstream="one"), decisions=[Decision("p", "pass")], seconds=2)
    assert (ended.call, ended.final, ended.principal.id, ended.session) == (call, call, "me", "s")
    assert (ended.upstream, ended.sent, ended.seconds, ended.decisions[0].plugin) == ("one", True, 2, "p")
    refused = make_call_ended(call, CallResult.refused("no"))
    assert (refused.upstream, refused.sent) == (None, False)
    assert make_call_ended().result.outcome == "ok"
    alice = Principal.proven("alice", issuer="keys")
    assert make_authentication_ended(alice, plugin="keys").principal is alice
    assert make_authentication_ended(reason="revoked").principal is None
    changed = make_upstream_changed("one", "ejected", reason="reset")
    assert (changed.state, changed.before) == (UpstreamState.EJECTED, UpstreamState.HEALTHY)


def test_what_trace_call_and_notes_get() -> None:
    begun = make_begun("prompts/get", era="legacy", headers={"traceparent": "x"})
    assert (begun.method, begun.protocol_version, begun.headers) == ("prompts/get", "2025-11-25", {"traceparent": "x"})
    tool = make_call("sub").tool
    assert tool is not None
    known = make_known(["one"], tools=["add", tool], groups=["dev"])
    assert known.tools is not None
    assert [tool.name for tool in known.tools] == ["add", "sub"]
    assert [note.message for note in known.about_groups(["ops"], "groups")] == ['no agent is in the group "ops"']
    assert make_known().tools is None


def test_upstreams_have_any_state() -> None:
    assert make_upstream(state="needs_login").state is UpstreamState.NEEDS_LOGIN
    assert make_upstream(healthy=False).state is UpstreamState.DOWN
    assert make_call(upstreams=[make_upstream("one")]).upstreams == ("one",)
    assert asyncio.run(run_call(make_call(answers={"x": Answer("accept")}), FakeUpstream())).error is None
