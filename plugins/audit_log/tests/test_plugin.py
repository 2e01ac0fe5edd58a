"""`audit_log`: what the entries say about calls, through the pipeline, and what happens when they cannot be written."""

import asyncio
import dataclasses
import json
import os
import threading
import time

import pytest
from gateway_audit_log import journal as journal_module
from gateway_audit_log import writer as writer_module
from gateway_audit_log.chaining import keys_of
from gateway_audit_log.entries import Entries
from gateway_audit_log.journal import JournalError
from gateway_audit_log.plugin import AuditLog
from gateway_audit_log.reading import entries_of, files_of
from gateway_audit_log.verifying import verify
from msgspec.structs import replace
from pydantic import ValidationError

from gateway_core import (
    Answer,
    Ask,
    AuthenticationEnded,
    CallResult,
    Known,
    Outcome,
    Pass,
    Principal,
    Reject,
    RpcError,
    UpstreamChanged,
    UpstreamState,
    hookimpl,
)
from gateway_core.testing import FakeUpstream, FakeUser, configured, make_call, run_call

ALICE = Principal.proven(
    "alice", issuer="keys", groups=["dev", "ops"], scopes=["read"], claims={"profile": "support", "email": "a@example"}
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


def says(verdict):
    class Says:
        @hookimpl
        def before_call(self, call):
            return verdict(call) if callable(verdict) else verdict

    return configured(Says(), name="says")


async def recorded(path, call, *plugins, upstream=None, user=None, **settings):
    """The entries of one call."""
    plugin = configured(AuditLog, file=path, **settings)
    result = await run_call(call, upstream or FakeUpstream(), plugin, *plugins, user=user)
    entries = list(entries_of(files_of(path)))
    assert [entries[0]["type"], entries[-1]["type"]] == ["start", "stop"]
    assert verify(files_of(path), keys_of(settings.get("key_file"), b"")).count == 0
    return result, [one for one in entries if one["type"] == "call"]


async def test_an_entry_says_who_called_what_and_how_it_ended(path):
    call = make_call(
        "files__read", {"path": "a"}, principal=ALICE, original_name="read", annotations={"readOnlyHint": True}
    )
    _, (entry,) = await recorded(path, call)
    assert entry["principal"] == {
        "id": "alice|keys",
        "verified": True,
        "client": "",
        "address": "",
        "subject": "alice",
        "issuer": "keys",
        "groups": ["dev", "ops"],
        "scopes": ["read"],
        "claims": {"profile": "support"},
        "claims_left_out": 1,
    }
    assert entry["served"] == {
        "kind": "tool",
        "upstreams": ["upstream"],
        "original": "read",
        "tier": "read",
        "annotations": {"readOnlyHint": True},
    }
    expected = {
        "method": "tools/call",
        "name": "files__read",
        "era": "modern",
        "exchange": "exchange",
        "decision": "allow",
        "decisions": [],
        "outcome": "ok",
        "code": None,
        "upstream": "upstream",
        "sent": True,
    }
    assert {key: entry[key] for key in expected} == expected
    assert entry["arguments"]["bytes"] == len(b'{"path":"a"}')
    assert "payload" not in entry
    assert "rewritten" not in entry


async def test_a_name_that_an_agent_only_claims_is_marked(path):
    _, (entry,) = await recorded(path, make_call())
    assert entry["principal"] == {"id": "agent@127.0.0.1", "verified": False, "client": "", "address": ""}


@pytest.mark.parametrize("principal", [ALICE, Principal("agent@127.0.0.1")])
async def test_the_profile_that_an_agent_uses_is_recorded(path, principal):
    _, (entry,) = await recorded(path, make_call(principal=dataclasses.replace(principal, profile="small")))
    assert entry["principal"]["profile"] == "small"


@pytest.mark.parametrize(
    ("verdict", "decision", "rule", "outcome"),
    [
        (Pass("staff"), "allow", "staff", "ok"),
        (Reject("no", rule="night"), "refuse", "night", "refused"),
        (lambda call: CallResult.unknown(call, rule="hidden"), "refuse", "hidden", "refused"),
        (CallResult.text("cached"), "answer", "", "ok"),
        (Ask("may it?", name="deploy"), "refuse", "deploy", "refused"),
        (lambda call: 1 / 0, "fail", "", "refused"),
    ],
)
async def test_the_decision_its_plugin_and_its_rule(path, verdict, decision, rule, outcome):
    _, (entry,) = await recorded(path, make_call(), says(verdict))
    assert (entry["decision"], entry["plugin"], entry["rule"]) == (decision, "says", rule)
    assert entry["outcome"] == outcome
    assert entry["sent"] is (decision == "allow")


async def test_a_question_and_the_call_that_follows_it(path):
    asks = says(lambda call: Pass("accepted") if call.answers else Ask("may it?", name="deploy"))
    _, (asked, retried) = await recorded(path, make_call(), asks, user=FakeUser(Answer("accept")))
    assert (asked["decision"], asked["outcome"], asked["rule"]) == ("ask", "asked", "deploy")
    assert (retried["decision"], retried["rule"], retried["continues"]) == ("allow", "accepted", True)


async def test_unknown_names_and_unknown_outcomes(path):
    _, (entry,) = await recorded(path, make_call("nothing", known=False))
    assert (entry["served"], entry["outcome"], entry["code"], entry["upstream"]) == (None, "error", -32602, None)
    lost = CallResult(raw=b'{"isError":true}', outcome=Outcome.UNKNOWN, upstream="upstream")
    _, entries = await recorded(path, make_call(), upstream=FakeUpstream(lost))
    assert (entries[-1]["outcome"], entries[-1]["sent"]) == ("unknown", True)
    _, entries = await recorded(path, make_call(), upstream=FakeUpstream(RpcError(-5, "broken", {"a": 1})))
    assert (entries[-1]["outcome"], entries[-1]["code"]) == ("error", -5)


async def test_a_rewritten_call(path):
    renames = says(lambda call: call.replace(name="other", arguments={"b": 2}))
    _, (entry,) = await recorded(path, make_call("echo", {"a": 1}), renames)
    assert (entry["name"], entry["rewritten"]["name"]) == ("echo", "other")
    assert entry["rewritten"]["arguments"]["digest"] != entry["arguments"]["digest"]
    assert entry["decisions"] == [["says", "rewrite", ""]]


@pytest.mark.parametrize(
    ("method", "name", "shown"),
    [
        ("resources/read", "https://u:secret@host/a?token=secret#secret", "https://host/a"),
        ("resources/subscribe", "note://today", "note://today"),
        ("prompts/get", "greet", "greet"),
        ("tools/list", "", ""),
        ("tools/call", "x" * 900, "x" * 500),
    ],
)
async def test_names_are_bounded_and_have_no_secrets(path, method, name, shown):
    call = make_call(name, method=method)
    _, (entry,) = await recorded(path, call, upstream=FakeUpstream(CallResult(raw=b"{}", upstream="upstream")))
    assert (entry["method"], entry["name"]) == (method, shown)


async def test_the_id_of_a_task_is_not_recorded(path):
    answer = FakeUpstream(CallResult(raw=b"{}", upstream="upstream"))
    _, (entry,) = await recorded(path, make_call("secret-task-id", method="tasks/get"), upstream=answer)
    assert entry["name"].startswith("task ")
    assert "secret-task-id" not in path.read_text()


async def test_an_entry_says_who_answered_on_a_page(path):
    seen = []

    class Observes:
        @hookimpl
        def observe(self, event):
            seen.append(event)

    await run_call(make_call("write"), FakeUpstream(), Observes())
    entries = Entries(AuditLog.Config(file=path), keys_of(None, b"d"))
    found = [entries.of(replace(seen[0], answered=True, answered_by=by)) for by in (("boss|keys",), ())]
    found.append(entries.of(seen[0]))
    shown = [(one.get("answered"), one.get("answered_by")) for one in found]
    assert shown == [(True, ["boss|keys"]), (True, None), (None, None)]


# -- digests and payloads -----------------------------------------------------------------------------------------


async def test_digests_tell_equal_arguments_and_nothing_else(path, tmp_path):
    key = tmp_path / "key"
    key.write_text("k" * 64)
    key.chmod(0o600)
    digests = []
    for arguments in ({"pin": "1234"}, {"pin": "1234"}, {"pin": "1235"}):
        _, entries = await recorded(path, make_call("echo", arguments), key_file=key)
        digests.append(entries[-1]["arguments"]["digest"])
    assert digests[0] == digests[1] != digests[2]
    assert "1234" not in path.read_text()


async def test_payloads_only_where_asked_and_on_one_line(path):
    call = make_call("echo", {"text": "hello\nthere"})
    _, (entry,) = await recorded(path, call, payloads=["other", "upstream:ech?"])
    assert entry["payload"]["arguments"] == {"value": {"text": "hello\nthere"}}
    assert entry["payload"]["result"]["value"]["content"] == [{"type": "text", "text": "ok"}]
    _, entries = await recorded(path, call, payloads=["other"])
    assert "payload" not in entries[-1]


async def test_arguments_over_several_lines_stay_one_entry(path):
    call = replace(make_call("echo"), raw_arguments=b'{\n  "a": 1,\r\n  "b": [1,\n 2]\n}')
    _, (entry,) = await recorded(path, call, payloads=["*"])
    assert entry["payload"]["arguments"] == {"value": {"a": 1, "b": [1, 2]}}


async def test_a_large_payload_is_only_counted(path):
    _, (entry,) = await recorded(path, make_call("echo", {"a": "x" * 500}), payloads=["*"], max_payload=256)
    assert entry["payload"]["arguments"] == {"left_out": f"it has {entry['arguments']['bytes']} bytes"}


async def test_secrets_in_payloads_are_hidden(path):
    arguments = {"password": "hunter2", "note": "token=ghp_abcdefghijklmnop1234", "plain": "kept"}
    _, (entry,) = await recorded(path, make_call("echo", arguments), payloads=["*"])
    kept = entry["payload"]["arguments"]
    assert (kept["value"]["password"], kept["value"]["plain"], kept["hidden"]) == ("[REDACTED]", "kept", True)
    assert "hunter2" not in path.read_text()
    assert "ghp_abcdefghijklmnop1234" not in path.read_text()


@pytest.mark.parametrize("page", ["oauth/start", "ask"])
async def test_payloads_have_no_address_of_a_page_that_only_the_user_may_know(path, page):
    token = "Za9-_" * 8 + "abc"
    text = f"open https://gateway.example/{page}/{token} in a browser"
    _, (entry,) = await recorded(path, make_call("echo"), upstream=FakeUpstream(text), payloads=["*"])
    assert entry["payload"]["result"]["hidden"]
    assert f"/{page}/[REDACTED] in a browser" in path.read_text()
    assert token not in path.read_text()


def test_secrets_that_the_gateway_holds_are_hidden_in_payloads(path):
    entries = Entries(AuditLog.Config(file=path, payloads=["*"]), keys_of(None, b"d"))
    kept = entries._payload(b'{"a":"the secret is held"}', lambda data: data.replace(b"held", b"[REDACTED]"))
    assert kept == {"value": {"a": "the secret is [REDACTED]"}, "hidden": True}


# -- authentication -----------------------------------------------------------------------------------------------


async def test_authentications(path):
    async with configured(AuditLog, file=path).instance as audit:
        assert audit.observe(UpstreamChanged("one", UpstreamState.DOWN, UpstreamState.HEALTHY)) is None
        audit.observe(AuthenticationEnded("192.0.2.1", None, "keys", "keys: revoked"))
        audit.observe(AuthenticationEnded("192.0.2.1", ALICE, "keys", "", generation=3))
    refused, accepted = (one for one in entries_of([path]) if one["type"] == "authentication")
    assert (refused["decision"], refused["address"], refused["reason"]) == ("refuse", "192.0.2.1", "keys: revoked")
    assert (accepted["decision"], accepted["principal"]["id"]) == ("allow", "alice|keys")
    assert (refused["generation"], accepted["generation"]) == (1, 3)


# -- failures -----------------------------------------------------------------------------------------------------


class Disk:
    """A disk that can be full."""

    def __init__(self, monkeypatch):
        self.full = False
        write = os.write

        def written(descriptor, data):
            if self.full:
                raise OSError(28, "No space left on device")
            return write(descriptor, data)

        monkeypatch.setattr(journal_module.os, "write", written)
        monkeypatch.setattr(writer_module, "RETRY", 0.05)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


async def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def called(chain_of, call=None):
    return await run_call(call or make_call(), FakeUpstream(), chain_of)


@pytest.mark.parametrize("on_failure", ["continue", "refuse"])
async def test_a_full_disk(path, disk, on_failure):
    plugin = configured(AuditLog, file=path, on_failure=on_failure)
    audit = plugin.instance
    async with plugin.instance:
        assert (await called(plugin)).outcome is Outcome.OK
        assert plugin.warnings == ()
        disk.full = True
        assert (await called(plugin)).outcome is Outcome.OK, "nothing is known yet"
        await until(lambda: plugin.warnings)
        (warning,) = plugin.warnings
        assert str(path) in warning
        assert "No space left on device" in warning
        result = await called(plugin)
        if on_failure == "refuse":
            assert result.outcome is Outcome.REFUSED
            assert "the audit log cannot be written, so calls are refused" in result.error.message
            assert "calls are refused" in warning
        else:
            assert result.outcome is Outcome.OK
            assert "calls are served" in warning
        disk.full = False
        await until(lambda: not audit.warnings)
        assert (await called(plugin)).outcome is Outcome.OK
    calls = [one for one in entries_of([path]) if one["type"] == "call"]
    assert len(calls) == 4, "what waited in memory was written"
    assert verify([path], keys_of(None, b"")).findings == []


async def test_what_finds_no_room_is_counted_and_noted(path, disk, monkeypatch):
    monkeypatch.setattr(writer_module, "MAX_EVENTS", 5)
    plugin = configured(AuditLog, file=path)
    async with plugin.instance:
        disk.full = True
        await called(plugin)
        await until(lambda: plugin.warnings)
        for _ in range(9):
            await called(plugin)
        assert any("5 entries were lost" in text for text in plugin.warnings)
        disk.full = False
        await until(lambda: not plugin.instance._writer.problem)
    entries = list(entries_of([path]))
    assert len([one for one in entries if one["type"] == "call"]) == 5
    assert [one["entries"] for one in entries if one["type"] == "lost"] == [5]


async def test_the_agent_waits_for_its_entry_if_told_to(path):
    plugin = configured(AuditLog, file=path, sync="each")
    async with plugin.instance:
        for number in range(5):
            await called(plugin)
            assert len([one for one in entries_of([path]) if one["type"] == "call"]) == number + 1


async def test_a_full_disk_lets_no_agent_wait_for_ever(path, disk):
    plugin = configured(AuditLog, file=path, sync="each")
    async with plugin.instance:
        disk.full = True
        assert (await asyncio.wait_for(called(plugin), 20)).outcome is Outcome.OK
    assert "stop" not in path.read_text(), "nothing could be written at the end either"


@pytest.mark.parametrize(("sync", "forced"), [("none", 1), ("interval", 2), ("each", 3)])
async def test_when_entries_are_forced_to_the_disk(path, monkeypatch, sync, forced):
    """The end of the plugin always forces them."""
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(journal_module.os, "fsync", lambda descriptor: (seen.append(1), fsync(descriptor)))
    plugin = configured(AuditLog, file=path, sync=sync, **({"sync_interval": 0.1} if sync == "interval" else {}))
    async with plugin.instance:
        await called(plugin)
        if sync == "interval":
            await until(lambda: seen)
        if sync == "each":
            await called(plugin)
            assert len(seen) >= 2
    assert len(seen) >= forced
    assert sync != "none" or len(seen) == 1


async def test_one_event_that_cannot_be_recorded_keeps_no_other_out(path, monkeypatch):
    plugin = configured(AuditLog, file=path)
    plugin.instance._source = plugin.instance._source._replace(make=lambda event: 1 / 0)
    async with plugin.instance:
        await called(plugin)
    assert [one["type"] for one in entries_of([path])] == ["start", "unreadable", "stop"]


async def test_an_entry_that_no_json_can_hold_keeps_no_other_out(path):
    plugin = configured(AuditLog, file=path)
    plugin.instance._source = plugin.instance._source._replace(make=lambda event: {"type": "call", "name": "\ud800"})
    async with plugin.instance:
        await called(plugin)
    assert [one["type"] for one in entries_of([path])] == ["start", "unreadable", "stop"]


async def test_any_other_failure_to_write_follows_on_failure(path, monkeypatch):
    """As a bug does, or a library that raises something unexpected."""
    plugin = configured(AuditLog, file=path, on_failure="refuse")
    monkeypatch.setattr(writer_module, "RETRY", 0.05)
    async with plugin.instance:
        with monkeypatch.context() as broken:
            broken.setattr(journal_module, "sealed", lambda *_: 1 / 0)
            await called(plugin)
            await until(lambda: plugin.warnings)
            assert "ZeroDivisionError" in plugin.warnings[0]
            assert (await called(plugin)).outcome is Outcome.REFUSED
        await until(lambda: not plugin.warnings)
    assert [one["type"] for one in entries_of([path])] == ["start", "call", "call", "stop"]


# -- life -----------------------------------------------------------------------------------------------------------


async def test_two_gateways_of_a_process_share_the_file(path):
    """As while a new configuration takes over."""
    old, new = (configured(AuditLog, file=path) for _ in range(2))
    async with old.instance:
        await called(old)
        async with new.instance:
            await called(new)
        await called(old)
    entries = list(entries_of([path]))
    assert [one["type"] for one in entries] == ["start", "call", "call", "call", "stop"]
    assert verify([path], keys_of(None, b"")).count == 0


async def test_settings_count_once_their_configuration_is_in_force(path):
    """A configuration that a reload refuses after its plugins were entered changes nothing."""
    small = {"file": path, "max_bytes": 64 * 1024}
    old, refused, new = configured(AuditLog, file=path), configured(AuditLog, **small), configured(AuditLog, **small)

    async def fill(plugin):
        for _ in range(100):
            await called(plugin)
        await until(lambda: not plugin.instance._writer.waiting)

    async with old.instance:
        async with refused.instance:
            await fill(old)
        await fill(old)
        assert len(files_of(path)) == 1
        async with new.instance:
            await fill(new)
            await fill(old)
            assert len(files_of(path)) > 1, "the newest one counts although the older one still serves calls"
    assert verify(files_of(path), keys_of(None, b"")).count == 0


async def test_a_file_can_be_used_again_once_a_slow_disk_took_all(path, monkeypatch):
    """The end of the plugin does not wait for ever; the writer keeps the lock until it is done."""
    monkeypatch.setattr(writer_module, "CLOSE_TIMEOUT", 0.1)
    write, going = os.write, threading.Event()
    plugin = configured(AuditLog, file=path)
    async with plugin.instance:
        await until(lambda: path.stat().st_size)
        monkeypatch.setattr(journal_module.os, "write", lambda *given: (going.wait(60), write(*given))[1])
        await called(plugin)
    again = configured(AuditLog, file=path)
    with pytest.raises(JournalError, match="an earlier configuration of this gateway still writes to it"):
        await again.instance.__aenter__()
    monkeypatch.setattr(writer_module, "CLOSE_TIMEOUT", 60)
    going.set()
    async with again.instance:
        await called(again)
    assert [one["type"] for one in entries_of([path])] == ["start", "call", "stop"] * 2


async def test_a_file_in_use_keeps_its_key(path, tmp_path):
    key = tmp_path / "key"
    key.write_text("k" * 64)
    key.chmod(0o600)
    async with configured(AuditLog, file=path).instance:
        with pytest.raises(JournalError, match="a new key needs a new file"):
            await configured(AuditLog, file=path, key_file=key).instance.__aenter__()


def test_a_plugin_that_was_only_constructed_touches_nothing(path):
    plugin = configured(AuditLog, file=path)
    assert plugin.instance.observe(AuthenticationEnded("", None, "", "")) is None
    assert plugin.warnings == ()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "settings", [{"sync": "often"}, {"max_bytes": 1}, {"kept_files": 0}, {"payload": ["*"]}, {"max_payload": 10**9}]
)
def test_wrong_settings(settings):
    with pytest.raises(ValidationError):
        AuditLog.Config(**settings)


def test_without_on_failure_it_judges_no_call(path):
    assert configured(AuditLog, file=path).methods == frozenset()
    assert "tools/call" in configured(AuditLog, file=path, on_failure="refuse").methods


async def test_a_thousand_calls_at_once(path):
    plugin = configured(AuditLog, file=path)
    async with plugin.instance:
        await asyncio.gather(*(called(plugin, make_call("echo", {"n": n})) for n in range(1000)))
    report = verify([path], keys_of(None, b""))
    assert (report.entries, report.count) == (1002, 0)
    assert json.loads(path.read_text().splitlines()[-1])["lost"] == 0


@pytest.mark.parametrize(
    "settings", [{"sync": "each", "sync_interval": 1.0}, {"sync": "none", "sync_interval": 1.0}, {"max_payload": 300}]
)
def test_a_setting_without_effect_is_an_error(path, settings):
    with pytest.raises(ValidationError, match="has no effect without"):
        configured(AuditLog, file=path, **settings)


def test_globs_of_payloads_that_match_nothing_are_noted(path):
    plugin = configured(AuditLog, file=path, payloads=["files:*", "flies:x", "serch"]).instance
    assert [note.setting for note in plugin.notes(Known(frozenset({"files"})))] == ["payloads[1]"]
    known = Known(frozenset({"files"}), [make_call("search", upstreams=("files",)).tool])
    assert [note.setting for note in plugin.notes(known)] == ["payloads[1]", "payloads[1]", "payloads[2]"]
