"""The mode `report`: it refuses nothing and says what it would have refused, at a bounded rate."""

import pytest
from gateway_security_policy import reporting
from gateway_security_policy.plugin import SecurityPolicy
from gateway_security_policy.reporting import Report

from gateway_core import Pass, Principal
from gateway_core.testing import make_call, run_hook

ALICE = Principal.proven("alice", issuer="i")
RULES = [{"name": "no x", "tools": ["x"], "then": "deny"}, {"tools": ["ok"], "then": "allow"}]


class Reporting:
    """A plugin whose clock is turned by hand, and the lines that it writes."""

    def __init__(self, *rules):
        self.now = 0.0
        self.plugin = SecurityPolicy(
            SecurityPolicy.Config(rules=rules or RULES, mode="report"), Report(clock=lambda: self.now)
        )

    def lines(self, *calls):
        lines = []
        with pytest.MonkeyPatch.context() as patch:
            # Other tests in this process may have sent the log elsewhere.
            patch.setattr(reporting, "note", lambda message, fields: lines.append((message, fields)))
            for call in calls:
                assert isinstance(run_hook(self.plugin, "before_call", call), Pass | None)
        return lines


def test_a_line_says_what_would_have_been_refused_to_whom_and_by_which_rule():
    lines = Reporting().lines(make_call("x", principal=ALICE), make_call("y"), make_call("ok"))
    assert lines == [
        (
            "security_policy would refuse tools/call x",
            {"exchange": "exchange", "agent": "alice|i", "rule": "no x", "generation": 1},
        ),
        (
            "security_policy would refuse tools/call y",
            {"exchange": "exchange", "agent": "agent@127.0.0.1", "rule": "no rule matches", "generation": 1},
        ),
    ]


def test_a_call_that_needs_a_person_goes_on_and_is_logged():
    lines = Reporting({"name": "careful", "then": "ask"}).lines(make_call("x"))
    assert lines == [
        (
            "security_policy would ask a person about tools/call x",
            {"exchange": "exchange", "agent": "agent@127.0.0.1", "rule": "careful", "generation": 1},
        )
    ]


def test_one_line_a_minute_for_each_principal_name_and_rule():
    reporting_ = Reporting()
    call, other = make_call("x"), make_call("x", principal=ALICE)
    assert len(reporting_.lines(call, call, other, other, make_call("y"))) == 3
    reporting_.now = 59.9
    assert reporting_.lines(call, other) == []
    reporting_.now = 60.0
    assert len(reporting_.lines(call, call)) == 1


def test_a_uri_and_a_task_id_are_not_written():
    calls = [make_call("db://u:secret@host", method="resources/read"), make_call("secret", method="tasks/get")]
    shown = [message.removeprefix("security_policy would refuse ") for message, _ in Reporting().lines(*calls)]
    assert shown == ["resources/read", "tasks/get"]


def test_names_that_do_not_exist_make_no_line():
    assert Reporting().lines(make_call("nothing", known=False)) == []


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(reporting, "MAX_KEYS", 10)
    found = Reporting()
    found.lines(*(make_call("x", principal=f"a{n}@127.0.0.1") for n in range(100)))
    assert len(found.plugin._report._written) == 10
