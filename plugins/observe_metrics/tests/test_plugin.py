"""What is counted, and what Prometheus reads."""

import re
from typing import Any

import pytest
from gateway_observe_metrics.plugin import Metrics, Settings
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from gateway_core import AuthenticationEnded, Call, CallResult, Pass, Principal, Reject, UpstreamState, hookimpl
from gateway_core.testing import FakeUpstream, make_call, make_result, run_call, run_hook

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "ready": True,
    "connections": 3,
    "sessions": 2,
    "in_flight": 1,
    "parked": 0,
    "rejected": 6,
    "memory": {"limit": 1000, "used": 10},
    "log": {"dropped": 4},
    "loop": {"blocked": 1, "blocked_seconds": 0.5, "lags": None},
    "plugins": [
        {"name": "observe_metrics", "times": {}},
        {"name": "slow", "times": {"before_call": {"calls": 7, "seconds": 1.5}}},
    ],
    "upstreams": [
        {
            "name": "files",
            "state": "healthy",
            "in_flight": 1,
            "queued": 5,
            "tools": 9,
            "calls": 20,
            "errors": 2,
            "connects": 3,
            "ejections": 1,
            "identities": None,
            "login": None,
            "tokens": None,
        },
        {
            "name": 'a"b\nc',
            "state": "down",
            "in_flight": 0,
            "queued": 0,
            "tools": 0,
            "calls": 0,
            "errors": 0,
            "connects": 0,
            "ejections": 0,
            "identities": None,
            "login": None,
            "tokens": None,
        },
    ],
}


LABELS = (
    "plugin",
    "decided",
    "rule",
    "result",
    "hook",
    "version",
    "method",
    "upstream",
    "tool",
    "owner",
    "outcome",
    "state",
    "le",
)


def figures(plugin: Metrics, **changes: Any) -> dict[tuple[str, ...], float]:
    """Name and labels of each sample -> its value, as the parser of the client library reads the page.

    The labels are in the order of `LABELS`. `changes`: members of the status.
    """
    (page,) = plugin.pages
    text = page.render({**STATUS, **changes}).decode()
    return {
        (sample.name, *(sample.labels[name] for name in LABELS if name in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Answers:
    """`before_call` returns this verdict."""

    def __init__(self, verdict: Any) -> None:
        self.verdict = verdict

    @hookimpl
    def before_call(self, call: Call) -> Any:
        return self.verdict


async def test_calls_are_counted_by_method_upstream_tool_and_outcome() -> None:
    plugin = Metrics(Settings(buckets=(0.000001, 60.0)))
    for _ in range(3):
        await run_call(make_call("echo"), FakeUpstream(make_result(upstream="files")), plugin)
    failing = FakeUpstream(make_result(is_error=True, upstream="files"))
    await run_call(make_call("echo"), failing, plugin)
    found = figures(plugin)
    assert found["radium_calls_total", "tools/call", "files", "echo", "ok"] == 3
    assert found["radium_calls_total", "tools/call", "files", "echo", "tool_error"] == 1
    name, labels = "radium_call_duration_seconds", ("tools/call", "files", "echo")
    buckets = [found[f"{name}_bucket", *labels, bound] for bound in ("1e-06", "60.0", "+Inf")]
    assert (buckets, found[f"{name}_count", *labels]) == ([0, 4, 4], 4)
    assert 0 < found[f"{name}_sum", *labels] < 60


async def test_names_that_no_server_lists_make_no_series() -> None:
    plugin = Metrics(Settings())
    for number in range(5):
        await run_call(make_call(f"invented{number}", known=False), FakeUpstream(), plugin)
    series = [key for key in figures(plugin) if key[0] == "radium_calls_total"]
    assert len(series) == 1
    assert series[0][1:] == ("tools/call", "", "", "error")


async def test_calls_are_counted_under_the_published_name_of_their_tool() -> None:
    plugin = Metrics(Settings())
    for written in ("files:echo", "the-echo-of-a-profile"):
        await run_call(replace(make_call("echo"), name=written), FakeUpstream(), plugin)
    for number in range(3):
        call = replace(make_call("echo"), method="tasks/get", name=f"sealed-task-id-{number}")
        await run_call(call, FakeUpstream(CallResult.of({"status": "working"})), plugin)
    series = {key[1:]: value for key, value in figures(plugin).items() if key[0] == "radium_calls_total"}
    assert series == {("tools/call", "upstream", "echo", "ok"): 2, ("tasks/get", "upstream", "echo", "ok"): 3}


async def test_series_are_bounded_and_none_is_lost() -> None:
    plugin = Metrics(Settings(max_series=2))
    for number in range(10):
        await run_call(make_call(f"tool{number}"), FakeUpstream(), plugin)
    found = {key[1:]: value for key, value in figures(plugin).items() if key[0] == "radium_calls_total"}
    assert len(found) == 3
    assert found["tools/call", "(other)", "(other)", "ok"] == 8
    assert sum(found.values()) == 10


@pytest.mark.parametrize(
    ("verdict", "labels"),
    [
        (Reject("no", rule="night"), ("Answers", "refuse", "night")),
        (Pass("staff"), ("Answers", "pass", "staff")),
        (CallResult.text("cached"), ("Answers", "answer", "")),
    ],
)
async def test_decisions_of_plugins_are_counted_with_their_rules(verdict: Any, labels: tuple[str, ...]) -> None:
    plugin = Metrics(Settings())
    for _ in range(2):
        await run_call(make_call("echo"), FakeUpstream(), Answers(verdict), plugin)
    assert figures(plugin)["radium_plugin_decisions_total", *labels] == 2


async def test_rules_are_bounded() -> None:
    plugin = Metrics(Settings())
    for number in range(1100):
        await run_call(make_call("echo"), FakeUpstream(), Answers(Reject("no", rule=f"rule {number}")), plugin)
    found = [key for key in figures(plugin) if key[0] == "radium_plugin_decisions_total"]
    assert len(found) == 1001
    assert figures(plugin)["radium_plugin_decisions_total", "(other)", "(other)", "(other)"] == 100


def test_authentications_are_counted() -> None:
    plugin = Metrics(Settings())
    refused = AuthenticationEnded("192.0.2.1", None, "", "no plugin recognises its credentials")
    proven = AuthenticationEnded("192.0.2.1", Principal.proven("alice", issuer="keys"), "auth_apikey", "")
    for event in (refused, proven, refused):
        run_hook(plugin, "observe", event)
    found = figures(plugin)
    assert found["radium_authentications_total", "", "refused"] == 2
    assert found["radium_authentications_total", "auth_apikey", "accepted"] == 1


def test_the_state_of_the_gateway_is_shown() -> None:
    found = figures(Metrics(Settings()))
    assert found["radium_info", "0.1.0"] == 1
    assert (found["radium_ready",], found["radium_sessions",], found["radium_memory_bytes",]) == (1, 2, 10)
    assert found["radium_hook_seconds_total", "slow", "before_call"] == 1.5
    assert found["radium_upstream_state", "files", "healthy"] == 1
    assert found["radium_upstream_state", "files", "down"] == 0
    assert found["radium_upstream_state", 'a"b\nc', "down"] == 1
    states = {key[2] for key in found if key[:2] == ("radium_upstream_state", "files")}
    assert states == {*UpstreamState, "disabled"}
    assert found["radium_upstream_calls_queued", "files"] == 5
    assert found["radium_upstream_ejections_total", "files"] == 1
    assert found["radium_loop_blocked_seconds_total",] == 0.5
    assert found["radium_requests_rejected_total",] == 6
    assert found["radium_log_lines_dropped_total",] == 4
    assert found["process_open_fds",] > 0


def test_lags_of_the_loop_are_a_histogram() -> None:
    plugin = Metrics(Settings())
    assert plugin.measures_loop_lag
    lags = {"bounds": [0.001, 0.1, 5.0], "counts": [7, 2, 1, 1], "seconds": 8.5}
    found = figures(plugin, loop={"blocked": 2, "blocked_seconds": 8.0, "lags": lags})
    name = "radium_loop_lag_seconds"
    assert [found[f"{name}_bucket", bound] for bound in ("0.001", "0.1", "5.0", "+Inf")] == [7, 9, 10, 11]
    assert (found[f"{name}_count",], found[f"{name}_sum",]) == (11, 8.5)


LOGIN: dict[str, Any] = {"needed": False, "renewable": True, "users": None, "users_due": None}
TOKENS: dict[str, Any] = {
    "expires_at": None,
    "renewals": {"renewed": 3, "failed": 2, "login_needed": 1},
    "user_renewals": None,
}


def of_tokens(**changes: Any) -> dict[tuple[str, ...], float]:
    """The figures of tokens and logins of an upstream, without its name, and nothing for one that has none."""
    one, other = STATUS["upstreams"]
    found = figures(Metrics(Settings()), upstreams=[{**one, **changes}, other])
    tokens = {key: value for key, value in found.items() if re.search("token|login_due|user_logins|identities", key[0])}
    assert all(key[1] == "files" for key in tokens)
    return {(key[0].removeprefix("radium_upstream_"), *key[2:]): value for key, value in tokens.items()}


def test_tokens_are_shown_with_their_expiry_and_renewals() -> None:
    assert of_tokens() == {}
    renewals = {
        ("token_renewals_total", "gateway", "renewed"): 3,
        ("token_renewals_total", "gateway", "failed"): 2,
        ("token_renewals_total", "gateway", "login_needed"): 1,
    }
    assert of_tokens(tokens=TOKENS) == renewals
    expiring = of_tokens(tokens={**TOKENS, "expires_at": 1790000000.5})
    expiry = {("token_expiry_timestamp_seconds",): 1790000000.5}
    assert expiring == {**renewals, **expiry, ("token_renewable",): 1}
    of_users = {"expires_at": None, "renewals": None, "user_renewals": {"renewed": 7}}
    assert of_tokens(tokens=of_users) == {("token_renewals_total", "users", "renewed"): 7}
    assert of_tokens(tokens={**TOKENS, "user_renewals": {"renewed": 7}}) == {
        **renewals,
        ("token_renewals_total", "users", "renewed"): 7,
    }
    assert of_tokens(identities=4) == {("identities",): 4}


@pytest.mark.parametrize(
    ("login", "state", "due"),
    [
        ({}, "healthy", 0),
        ({"needed": True}, "connecting", 1),
        ({}, "needs_login", 1),
        ({"needed": True, "users": 0, "users_due": 0}, "healthy", 0),
        ({"needed": True, "users": 0, "users_due": 0}, "needs_login", 1),
    ],
)
def test_a_login_is_due_where_the_operator_has_to_log_in(login: dict[str, Any], state: str, due: int) -> None:
    assert of_tokens(login={**LOGIN, **login}, state=state)["login_due",] == due


@pytest.mark.parametrize("renewable", [True, False])
def test_the_token_of_a_login_may_not_be_renewable(renewable: bool) -> None:
    found = of_tokens(login={**LOGIN, "renewable": renewable}, tokens={**TOKENS, "expires_at": 1790000000.5})
    assert found["token_renewable",] == renewable


def test_logins_of_users_are_counted_without_names() -> None:
    found = of_tokens(login={**LOGIN, "users": 5, "users_due": 2}, tokens=TOKENS)
    assert (found["user_logins", "usable"], found["user_logins", "due"]) == (3, 2)


def test_hooks_are_measured_only_if_the_file_says_so() -> None:
    assert not Metrics(Settings()).measures_hooks
    assert Metrics(Settings(hook_times=True)).measures_hooks


@pytest.mark.parametrize(
    "wrong",
    [{"buckets": (1.0, 1.0)}, {"buckets": ()}, {"buckets": (0.0,)}, {"buckets": (float("inf"),)}, {"max_series": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_the_token_is_that_of_the_page_and_is_not_printed() -> None:
    plugin = Metrics(Settings(token="hush"))  # type: ignore[arg-type]
    assert plugin.pages[0].token == "hush"
    assert "hush" not in repr((plugin.pages, Settings(token="hush")))  # type: ignore[arg-type]
