"""The configuration file through the control plane of a real gateway."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from gateway_core.concealing import MARKER
from gateway_core.config import Config
from gateway_core.generations import reloads
from tests.control.endpoints.conftest import READ, Controlled
from tests.generations.conftest import names, served, text

pytestmark = pytest.mark.timeout(180)
TOKEN = "s3cr3t-t0ken-1"


@pytest.fixture
async def started(stand: Controlled) -> Controlled:
    """A gateway with an upstream on stdio, whose file has a comment and a secret."""
    await stand.start(served("one", env={"API_TOKEN": TOKEN}))
    stand.path.write_text(f"# The servers of the team.\n{stand.path.read_text()}")
    return stand


async def test_a_text_is_read_checked_compared_and_applied_while_calls_run(started: Controlled) -> None:
    status, file = await started.ask("GET", "config", token=READ)
    assert (status, file["path"], file["writable"], file["reason"]) == (200, str(started.path), True, "")
    assert TOKEN not in str(file)
    wanted = file["text"].replace("enable = true", "enable = true # on\ntimeout = 7.0")
    assert await started.ask("POST", "config/validate", {"text": wanted}) == (200, {"valid": True, "problems": []})
    status, found = await started.ask("POST", "config/diff", {"text": wanted})
    assert (status, [one["name"] for one in found["changes"]], found["generation"]) == (200, ["timeout"], 1)
    async with started.client() as client:
        pid = await text(client, "one_pid")
        waiting = asyncio.ensure_future(text(client, "one_wait", seconds=2))
        async with asyncio.timeout(30):
            while not started.gateway.pool.upstreams[0].facts.in_flight:
                await asyncio.sleep(0.01)
        status, found = await started.ask("PUT", "config", {"text": wanted, "version": file["version"]})
        assert (status, found["generation"], found["changes"][0]["details"]) == (200, 2, ["60.0 -> 7.0"])
        assert await text(client, "one_pid") == pid
        assert await waiting == "waited"
    written = started.path.read_text()
    assert written == wanted.replace(f'API_TOKEN = "{MARKER}"', f'API_TOKEN = "{TOKEN}"')
    _, file = await started.ask("GET", "config")
    assert file["version"] == found["version"]


async def test_keys_are_changed_in_place_and_another_version_is_409(started: Controlled) -> None:
    change = [{"key": "upstreams.one.priority", "value": 3}, {"key": "log.level", "value": "DEBUG"}]
    before = started.path.read_text()
    status, found = await started.ask("PATCH", "config", {"changes": change})
    assert (status, [one["name"] for one in found["changes"]]) == (200, ["log.level", "one"])
    assert started.path.read_text().startswith("# The servers of the team.")
    assert f'API_TOKEN = "{TOKEN}"' in started.path.read_text()
    old = {"changes": [{"key": "log.level", "value": None}], "version": found["version"]}
    started.path.write_text(started.path.read_text() + "# by an editor\n")
    status, refused = await started.ask("PATCH", "config", old)
    assert status == 409
    assert "changed meanwhile" in refused["error"]
    status, _ = await started.ask("PUT", "config", {"text": before, "version": "0"})
    assert status == 409
    assert started.path.read_text().endswith("# by an editor\n")


async def test_what_is_refused_names_its_lines_and_keeps_the_file_byte_by_byte(started: Controlled) -> None:
    _, file = await started.ask("GET", "config")
    before = started.path.read_bytes()
    wrong = file["text"].replace("enable = true", "enable = true\ntimeout = 'x'\nnonsense = 1")
    for method, path in (("PUT", "config"), ("POST", "config/diff")):
        body = {"text": wrong} | ({"version": file["version"]} if method == "PUT" else {})
        status, found = await started.ask(method, path, body)
        assert status == 422
        assert [(one["line"], one["key"]) for one in found["problems"]] == [
            (4, "mcp.proxy.timeout"),
            (5, "mcp.proxy.nonsense"),
        ]
    status, found = await started.ask("POST", "config/validate", {"text": wrong})
    assert (status, found["valid"], len(found["problems"])) == (200, False, 2)
    broken = file["text"].replace("enable = true", "enable = ")
    status, found = await started.ask("POST", "config/validate", {"text": broken})
    assert (found["valid"], found["problems"][0]["line"]) == (False, 3)
    moved = file["text"].replace("API_TOKEN", "OTHER")
    status, found = await started.ask("PUT", "config", {"text": moved, "version": file["version"]})
    assert status == 422
    assert found["problems"][0]["key"] == "mcp.proxy.upstreams[0].env.OTHER"
    assert started.path.read_bytes() == before
    assert os.listdir(started.path.parent) == [started.path.name]
    assert started.gateway.status()["generation"] == 1


async def test_a_command_is_403_unless_the_file_allows_it(started: Controlled) -> None:
    before = started.path.read_bytes()
    table = {key: value for key, value in served("two").items() if key != "name"}
    body: dict[str, Any] = {"changes": [{"key": "upstreams.two", "value": table}]}
    status, found = await started.ask("PATCH", "config", body)
    assert status == 403
    assert "control.allow_commands" in found["error"]
    assert found["problems"][0]["line"] > 1
    allow = {"changes": [{"key": "control.allow_commands", "value": True}]}
    assert (await started.ask("PATCH", "config", allow))[0] == 403
    assert started.path.read_bytes() == before
    started.path.write_text(before.decode().replace("enable = true", "enable = true\ncontrol.allow_commands = true"))
    assert (await started.ask("POST", "reload"))[0] == 200
    assert (await started.ask("PATCH", "config", body))[0] == 200
    async with started.client() as client:
        assert "two_pid" in await names(client)


async def test_a_read_only_file_is_403_and_says_so(started: Controlled) -> None:
    started.path.chmod(0o400)
    _, file = await started.ask("GET", "config")
    assert (file["writable"], file["reason"]) == (False, "it is read-only")
    status, found = await started.ask("PATCH", "config", {"changes": [{"key": "timeout", "value": 3.0}]})
    assert status == 403
    assert "read-only" in found["error"]


async def test_a_full_disk_is_503(started: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, found = await started.ask("PATCH", "config", {"changes": [{"key": "timeout", "value": 3.0}]})
    assert status == 503
    assert "No space left" in found["error"]
    assert started.gateway.pipeline.timeout == 60.0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "config", {"text": "", "version": ""}),
        ("PATCH", "config", {"changes": []}),
        ("POST", "config/validate", {"text": ""}),
        ("POST", "config/diff", {"text": ""}),
        ("POST", "upstreams/one/disable", None),
        ("POST", "upstreams/one/drain", None),
        ("POST", "try", {"method": "tools/call", "params": {}}),
    ],
)
async def test_the_token_for_reading_changes_nothing(
    started: Controlled, method: str, path: str, body: dict[str, Any] | None
) -> None:
    before = started.path.read_bytes()
    assert (await started.ask(method, path, body, READ))[0] == 403
    assert (await started.ask(method, path, body, "wrong"))[0] == 401
    assert started.path.read_bytes() == before


@pytest.mark.parametrize(
    "body",
    [
        {"changes": [{"key": "timeout"}]},
        {"changes": [{"key": 7, "value": 1}]},
        {"changes": [{"key": "timeout", "value": 1.0, "more": 1}]},
        {"changes": [{"key": "timeout", "value": 1.0}] * 101},
        {"changes": [{"key": "x.y.z", "value": 1.0}]},
        {"changes": [{"key": "upstreams.none.enabled", "value": True}]},
    ],
)
async def test_changes_that_are_none_are_422(started: Controlled, body: dict[str, Any]) -> None:
    before = started.path.read_bytes()
    assert (await started.ask("PATCH", "config", body))[0] == 422
    assert started.path.read_bytes() == before


async def test_a_file_that_is_no_toml_is_422_with_its_line(started: Controlled) -> None:
    started.path.write_text("[mcp.proxy\n")
    status, found = await started.ask("GET", "config")
    assert (status, found["problems"][0]["line"]) == (422, 1)
    assert (await started.ask("PATCH", "config", {"changes": [{"key": "timeout", "value": 3.0}]}))[0] == 422


async def test_comparisons_follow_each_other_and_wait_for_a_bounded_time(
    started: Controlled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each builds the plugins, so that many at once would take the memory and the time of agents."""
    content = started.path.read_text()
    reading, go_on, check = asyncio.Event(), threading.Event(), started.check
    loop, running, most = asyncio.get_running_loop(), 0, 0

    def slow(given: str) -> Config:
        nonlocal running, most
        running += 1
        most = max(most, running)
        loop.call_soon_threadsafe(reading.set)
        assert go_on.wait(60)
        running -= 1
        return check(given)

    monkeypatch.setattr(started, "check", slow)
    others = [
        ("POST", "config/validate", {"text": content}),
        ("POST", "config/diff", {"text": content}),
        ("GET", "diff", None),
    ]
    first = asyncio.ensure_future(started.ask("GET", "diff", token=READ))
    await reading.wait()
    monkeypatch.setattr(reloads, "COMPARE_WAIT", 0.05)
    for method, path, body in others:
        status, answer = await started.ask(method, path, body)
        assert (status, "try again" in answer["error"]) == (503, True)
    monkeypatch.undo()
    monkeypatch.setattr(started, "check", slow)
    waiting = [asyncio.ensure_future(started.ask(method, path, body)) for method, path, body in others]
    go_on.set()
    assert [status for status, _ in await asyncio.gather(first, *waiting)] == [200] * 4
    assert most == 1
