"""What the control plane answers, and to whom."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from gateway_core import Page
from gateway_core.errors import ConfigError, FileProblem, PartlyApplied, PluginError, ReloadRefused
from gateway_core.hooks.pages import PluginPage


async def test_health_and_readiness_need_no_token(plane: Any) -> None:
    for ready, expected in [(True, 200), (False, 503)]:
        plane.operations.ready = ready
        async with plane.get("/readyz", None) as answer:
            assert (answer.status, await answer.json()) == (expected, {"ready": ready})
        async with plane.get("/healthz", None) as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_status_and_tools_are_shown_with_the_token(plane: Any) -> None:
    for path, content in [("/admin/status", {"pid": 1}), ("/admin/tools", {"tools": [1.0]})]:
        async with plane.get(path) as answer:
            assert (answer.status, await answer.json()) == (200, content)
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Server"] == "radium-mcp-gateway"


async def test_one_tool_is_shown_by_its_name_whatever_characters_it_has(plane: Any) -> None:
    for name, query in [("files:read", "name=files%3Aread"), ("a b&c=ü", "name=a%20b%26c%3D%C3%BC"), ("", "")]:
        async with plane.get(f"/admin/tool?{query}") as answer:
            assert (answer.status, await answer.json()) == (200, {"name": name})
    async with plane.get("/admin/tool?name=x", None) as answer:
        assert answer.status == 401


async def test_a_profile_is_named_in_the_query(plane: Any) -> None:
    async with plane.get("/admin/tool?name=x&profile=desk") as answer:
        assert (answer.status, await answer.json()) == (200, {"name": "x", "profile": "desk"})
    async with plane.get("/admin/tools?profile=desk") as answer:
        assert answer.status == 404
        assert await answer.json() == {"error": "no profile 'desk'; the configuration has no profiles"}


@pytest.mark.parametrize(
    "authorization", [None, "", "sesame", "Bearer", "Bearer wrong", "Bearer sesame2", "Basic sesame", "Bearer ä"]
)
async def test_admin_needs_the_token(plane: Any, authorization: str | None) -> None:
    for path in ("/admin/status", "/admin/tools", "/%61dmin/status"):
        async with plane.get(path, authorization) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_two_tokens_are_refused(plane: Any) -> None:
    answer = await plane.raw(
        b"GET /admin/status HTTP/1.1\r\nHost: localhost\r\n" + b"Authorization: Bearer sesame\r\n" * 2 + b"\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_an_empty_token_lets_no_request_in(start: Any) -> None:
    plane = await start(token="")
    for authorization in ("Bearer ", "Bearer"):
        async with plane.get("/admin/status", authorization) as answer:
            assert answer.status == 401


@pytest.mark.parametrize("path", ["/admin/status", "/admin/tools", "/healthz", "/readyz", "/nowhere", "/healthz/"])
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
async def test_other_hosts_and_origins_are_forbidden_everywhere(plane: Any, path: str, headers: dict[str, str]) -> None:
    async with plane.get(path, None, **headers) as answer:
        probe = path in {"/healthz", "/readyz"} and "Host" in headers
        assert answer.status == (200 if probe else 403)


@pytest.mark.parametrize("host", ["10.1.2.3:8080", "[fd00::5]:80", "gateway.default.svc.cluster.local"])
async def test_probes_may_use_any_host(plane: Any, host: str) -> None:
    for path, body in [("/healthz", {"status": "ok"}), ("/readyz", {"ready": True})]:
        async with plane.get(path, None, Host=host) as answer:
            assert (answer.status, await answer.json()) == (200, body)
    async with plane.get("/healthz", None, Host="two words") as answer:
        assert answer.status == 400


async def test_programs_with_a_token_may_use_any_host_but_no_foreign_origin(plane: Any) -> None:
    async with plane.get("/admin/status", Host="10.1.2.3:8080") as answer:
        assert answer.status == 200
    async with plane.get("/admin/status", "Bearer wrong", Host="10.1.2.3:8080") as answer:
        assert answer.status == 403
    async with plane.get("/admin/status", Host="two words") as answer:
        assert answer.status == 400
    async with plane.get("/admin/status", Host="10.1.2.3:8080", Origin="http://10.1.2.3:8080") as answer:
        assert answer.status == 403


@pytest.mark.parametrize("headers", [{"Host": "gateway.example.com"}, {"Origin": "http://localhost:1"}])
async def test_allowed_hosts_and_origins_of_this_machine_pass(plane: Any, headers: dict[str, str]) -> None:
    async with plane.get("/admin/status", **headers) as answer:
        assert answer.status == 200


async def test_an_absolute_request_target_is_refused(plane: Any) -> None:
    """Its authority would stand in for the Host header, which is what was checked (RFC 9112 3.2.2)."""
    answer = await plane.raw(b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_unknown_addresses_and_methods_are_answered_in_json(plane: Any) -> None:
    for path in ("/mcp", "/admin", "/admin/", "/admin/status/"):
        async with plane.get(path) as answer:
            assert answer.status == 404
            assert "/admin/status" in (await answer.json())["error"]
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        async with plane.get("/admin/status", method=method) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
            assert "GET" in (await answer.json())["error"]
    async with plane.get("/admin/status", method="HEAD") as answer:
        assert answer.status == 200


async def test_a_bug_is_answered_without_details(plane: Any) -> None:
    plane.operations.shown = {}
    async with plane.get("/admin/tools") as answer:
        assert (answer.status, await answer.json()) == (500, {"error": "the gateway failed to serve this request"})
    async with plane.get("/healthz") as answer:
        assert answer.status == 200


async def test_pages_are_without_secrets_of_the_gateway(plane: Any) -> None:
    plane.operations.shown["reason"] = "cannot use hush"
    async with plane.get("/admin/status") as response:
        assert "cannot use [REDACTED]" in await response.text()


def show(plane: Any, render: Any, **settings: Any) -> None:
    plane.operations.pages = {"/figures": PluginPage("figures", Page("/figures", render, **settings))}


async def test_a_page_of_a_plugin_gets_the_status_in_a_thread(plane: Any) -> None:
    threads = []

    def render(status: Mapping[str, Any]) -> bytes:
        threads.append(threading.current_thread())
        return f"pid {status['pid']} hush".encode()

    show(plane, render, content_type="text/plain; version=0.0.4; charset=utf-8")
    async with plane.get("/figures") as answer:
        assert (answer.status, await answer.text()) == (200, "pid 1 [REDACTED]")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert threads[0] is not threading.main_thread()


@pytest.mark.parametrize(
    ("token", "offered", "status"),
    [
        ("", "Bearer sesame", 200),
        ("scrape", "Bearer sesame", 200),
        ("scrape", "Bearer scrape", 200),
        ("scrape", "Bearer other", 401),
        ("scrape", None, 401),
        ("", "Bearer ", 401),
    ],
)
async def test_a_page_needs_the_admin_token_or_its_own(plane: Any, token: str, offered: str, status: int) -> None:
    show(plane, lambda status: b"x", token=token)
    async with plane.get("/figures", offered) as answer:
        assert answer.status == status


async def test_the_token_of_a_page_opens_nothing_else(plane: Any) -> None:
    show(plane, lambda status: b"x", token="scrape")
    async with plane.get("/admin/status", "Bearer scrape") as answer:
        assert answer.status == 401


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_page_is_only_read(plane: Any, method: str) -> None:
    show(plane, lambda status: b"x")
    async with plane.get("/figures", method=method) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("render", [lambda status: 1 / 0, lambda status: None])
async def test_a_page_that_fails_hurts_no_other(plane: Any, render: Any) -> None:
    show(plane, render)
    async with plane.get("/figures") as answer:
        assert (answer.status, await answer.json()) == (
            500,
            {"error": "the plugin figures failed to render this page"},
        )
    async with plane.get("/admin/status") as answer:
        assert answer.status == 200


async def test_a_page_of_another_site_is_forbidden(plane: Any) -> None:
    show(plane, lambda status: b"x")
    async with plane.get("/figures", Origin="http://evil.example") as answer:
        assert answer.status == 403


FILE = pytest.mark.parametrize(("path", "method", "asked"), [("reload", "POST", "reload"), ("diff", "GET", "diff")])


@FILE
async def test_a_reload_needs_the_token_and_its_method(plane: Any, path: str, method: str, asked: str) -> None:
    async with plane.get(f"/admin/{path}", None, method) as answer:
        assert answer.status == 401
    async with plane.get(f"/admin/{path}", method="DELETE") as answer:
        assert answer.status == 405
    async with plane.get(f"/admin/{path}", method=method) as answer:
        assert (answer.status, await answer.json()) == (200, {"asked": asked})


@FILE
async def test_all_problems_of_a_file_are_answered_without_secrets(
    plane: Any, path: str, method: str, asked: str
) -> None:
    plane.operations.problem = ConfigError([FileProblem("a.toml", 40, "mcp.proxy.port", "hush"), "--port: wrong"])
    async with plane.get(f"/admin/{path}", method=method) as answer:
        assert answer.status == 422
        found = (await answer.json())["problems"]
    place = {"file": "a.toml", "line": 40, "key": "mcp.proxy.port", "message": "[REDACTED]"}
    assert found[0] == {**place, "text": "a.toml:40: mcp.proxy.port: [REDACTED]"}
    assert found[1] == {"file": None, "line": None, "key": None, "message": "--port: wrong", "text": "--port: wrong"}


async def test_a_plugin_that_cannot_start_is_a_problem_of_the_file(plane: Any) -> None:
    plane.operations.problem = PluginError("the plugin p could not start")
    async with plane.get("/admin/reload", method="POST") as answer:
        assert answer.status == 422
        assert [one["text"] for one in (await answer.json())["problems"]] == ["the plugin p could not start"]


async def test_a_restart_begins_unless_the_file_has_problems(plane: Any) -> None:
    async with plane.get("/admin/restart", None, "POST") as answer:
        assert answer.status == 401
    plane.operations.problem = ConfigError([FileProblem("a.toml", 40, "mcp.proxy.port", "wrong")])
    async with plane.get("/admin/restart", method="POST") as answer:
        assert answer.status == 422
    assert plane.operations.done == []
    plane.operations.problem = None
    async with plane.get("/admin/restart", method="POST") as answer:
        assert (answer.status, await answer.json()) == (200, {"restarting": True})
    assert plane.operations.done == [("restart", "")]


async def test_a_gateway_that_takes_no_file_answers_409(plane: Any) -> None:
    plane.operations.problem = ReloadRefused("it is stopping")
    async with plane.get("/admin/reload", method="POST") as answer:
        assert (answer.status, await answer.json()) == (409, {"error": "it is stopping"})


async def test_a_configuration_that_is_partly_in_force_is_a_failure_with_the_remedy(plane: Any) -> None:
    plane.operations.problem = PartlyApplied(7, 1)
    async with plane.get("/admin/reload", method="POST") as answer:
        assert answer.status == 500
        error = (await answer.json())["error"]
    assert error.startswith("generation 7 is in force")
    assert error.endswith("restart the gateway")


async def test_a_reload_may_take_longer_than_other_requests(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.control.listener.CONNECTION_TIME", 0.2)
    plane = await start()
    plane.operations.delay = 1.0
    async with plane.get("/admin/reload", method="POST") as answer:
        assert answer.status == 200


async def test_calls_and_sessions_are_shown_with_the_token(plane: Any) -> None:
    for path, content in [
        ("/admin/calls", {"calls": [{"id": "[REDACTED]-1"}]}),
        ("/admin/sessions", {"sessions": [{"key": "k"}]}),
    ]:
        async with plane.get(path) as answer:
            assert (answer.status, await answer.json()) == (200, content)
        async with plane.get(path, None) as answer:
            assert answer.status == 401


ACTS = [
    ("/admin/calls/a1%2Fb/cancel", ("cancel", "a1/b"), {"cancelled": "a1/b"}),
    ("/admin/sessions/k/end", ("end", "k"), {"ended": "k"}),
    ("/admin/upstreams/files/reconnect", ("reconnect", "files"), {"reconnecting": "files"}),
]


@pytest.mark.parametrize(("path", "asked", "content"), ACTS)
async def test_operators_act_on_one_thing_by_its_name(plane: Any, path: str, asked: Any, content: Any) -> None:
    async with plane.get(path, method="POST") as answer:
        assert (answer.status, await answer.json()) == (200, content)
    assert plane.operations.done == [asked]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/admin/calls/x/cancel", "there is no call 'x'; it may have ended"),
        ("/admin/sessions/x/end", "there is no session 'x'; it may have ended"),
        ("/admin/upstreams/x/reconnect", "there is no enabled upstream 'x'; `rad mcp proxy status` lists them"),
    ],
)
async def test_what_is_not_there_is_not_found(plane: Any, path: str, problem: str) -> None:
    async with plane.get(path, method="POST") as answer:
        assert (answer.status, await answer.json()) == (404, {"error": problem})


@pytest.mark.parametrize(("path", "asked", "content"), ACTS)
async def test_nothing_is_done_without_the_token_or_by_reading(plane: Any, path: str, asked: Any, content: Any) -> None:
    async with plane.get(path, None, method="POST") as answer:
        assert answer.status == 401
    async with plane.get(path, "Bearer other", method="POST") as answer:
        assert answer.status == 401
    async with plane.get(path) as answer:
        assert answer.status == 405
    async with plane.get(path, method="POST", Origin="http://evil.example") as answer:
        assert answer.status == 403
    assert plane.operations.done == []


async def test_a_page_that_hangs_takes_one_thread_and_hurts_no_other(
    plane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.control.plugin_pages.PATIENCE", 0.5)
    ended, begun = threading.Event(), []

    def render(status: Mapping[str, Any]) -> bytes:
        begun.append(status)
        assert ended.wait(50)
        return b"x"

    show(plane, render)
    assert await asyncio.gather(*(_status(plane, "/figures") for _ in range(3))) == [503, 503, 503]
    assert await _status(plane, "/admin/status") == 200
    show(plane, render)  # as after a reload
    assert await _status(plane, "/figures") == 503
    assert len(begun) == 1
    monkeypatch.setattr("gateway_core.control.plugin_pages.PATIENCE", 50)
    ended.set()
    assert await _status(plane, "/figures") == 200
    assert len(begun) == 2


class Looked(dict[str, PluginPage]):
    """Pages, and how many requests looked for one."""

    times = 0

    def get(self, path: str, default: Any = None) -> Any:
        self.times += 1
        return super().get(path, default)


async def test_requests_for_a_page_that_is_being_rendered_get_the_same(plane: Any) -> None:
    ended, begun = threading.Event(), []

    def render(status: Mapping[str, Any]) -> bytes:
        begun.append(status)
        assert ended.wait(50)
        return f"{len(begun)}".encode()

    show(plane, render)
    plane.operations.pages = pages = Looked(plane.operations.pages)
    requests = [asyncio.create_task(_body(plane, "/figures")) for _ in range(3)]
    while pages.times < 3:
        await asyncio.sleep(0.01)
    ended.set()
    assert await asyncio.gather(*requests) == ["1"] * 3
    assert await _body(plane, "/figures") == "2"


async def _body(plane: Any, path: str) -> str:
    async with plane.get(path) as answer:
        assert answer.status == 200
        return str(await answer.text())


async def _status(plane: Any, path: str) -> int:
    async with plane.get(path) as answer:
        return int(answer.status)
