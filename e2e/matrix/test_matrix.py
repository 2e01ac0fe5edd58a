"""The matrix's own parts: what counts as right, what the page says, and what `--check` finds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from clients import CLIENTS
from judge import clean, judge
from page import Row, lost, render
from upstreams import UPSTREAMS, Ask

ASKS = {"tools/list": Ask(["a", "b"]), "tools/call": Ask("5"), "progress": Ask([[1, 2], [2, 2]])}


def said(**reports: Any) -> list[dict[str, Any]]:
    return [{"step": step.replace("__", "/"), **report} for step, report in reports.items()]


def judged(*can: str, drops_progress: bool = False, **reports: Any) -> dict[str, str | None]:
    return judge(can, said(connect={"got": "2025-11-25"}, **reports), ASKS, drops_progress)


def test_only_what_the_client_can_and_the_server_has_is_judged() -> None:
    assert judged("tools/call", "sampling", tools__call={"got": "it is 5"}) == {"connect": None, "tools/call": None}


@pytest.mark.parametrize(
    ("step", "got", "reason"),
    [
        ("tools/list", ["a", "b", "c"], None),
        ("tools/list", ["a"], "b is missing"),
        ("tools/call", "6", "5 was expected, not 6"),
        ("progress", [[1, 2], [2, 2]], None),
        ("progress", [[2, 2], [1, 2]], "[[1, 2], [2, 2]] was expected, not [[2, 2], [1, 2]]"),
        ("progress", [[1, 2]], "[[1, 2], [2, 2]] was expected, not [[1, 2]]"),
    ],
)
def test_an_answer_is_right_only_with_the_content_that_was_asked_for(step: str, got: Any, reason: str | None) -> None:
    assert judged(step, **{step.replace("/", "__"): {"got": got}})[step] == reason


def test_a_client_that_drops_progress_may_miss_the_last_and_no_other() -> None:
    assert judged("progress", drops_progress=True, progress={"got": [[1, 2]]})["progress"] is None
    assert judged("progress", drops_progress=True, progress={"got": [[2, 2]]})["progress"]


def test_an_error_a_silence_and_a_refused_connection_are_reasons() -> None:
    assert judged("tools/call", tools__call={"error": "no such tool"})["tools/call"] == "no such tool"
    assert judged("tools/call")["tools/call"] == "the client said nothing more"
    refused = judge(["tools/call"], said(connect={"error": "refused"}), ASKS, drops_progress=False)
    assert refused == {"connect": "refused", "tools/call": "not connected"}


def test_a_reason_says_nothing_of_the_machine_or_the_run() -> None:
    reason = "MCP error -32603: at http://127.0.0.1:4711/mcp:\n /home/ada/workspace/x 0123456789abcdef0123456789abcdef"
    assert clean(reason, Path("/home/ada/workspace")) == "at http://127.0.0.1:PORT/mcp: WORKSPACE/x ID"


def page(**cells: dict[str, str | None]) -> str:
    clients, servers = [Row("one", "", ""), Row("two", "", "")], [Row("server", "", "")]
    return render("1", clients, servers, {("server", title): results for title, results in cells.items()})


def test_the_check_finds_each_yes_that_is_gone_and_nothing_else() -> None:
    good: dict[str, str | None] = {"connect": None, "tools/list": None, "tools/call": None}
    before = page(one=good, two={"connect": None, "tools/list": None, "tools/call": "wrong"})
    assert lost(before, before) == []
    assert lost(before, page(one=good, two=good)) == []
    now = page(one={**good, "tools/call": "wrong"}, two={"connect": "refused"})
    assert lost(before, now) == ["Connect: server, two: no (1)", "Tools: server, one: no (1)"]


def test_the_check_finds_a_server_that_is_left_out() -> None:
    before = page(one={"connect": None}, two={"connect": None})
    assert lost(before, before.replace("| server | yes", "| other | yes")) == [
        "Connect: server, one: not in the table",
        "Connect: server, two: not in the table",
    ]


def test_the_committed_page_has_every_server_and_client() -> None:
    text = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
    connect = text.split("## Connect\n")[1].split("\n## ")[0]
    assert [line.split("|")[1].strip() for line in connect.splitlines() if line.startswith("| ")][1:] == [
        upstream.title for upstream in UPSTREAMS
    ]
    assert all(f"| {client.title} |" in connect for client in CLIENTS)
