"""Headers of the request in `Call.headers`: those that a plugin names, over both eras, and never credentials."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway_core import Call, CallEnded, Credentials, Event, Principal, Reject, UpstreamView, hookimpl
from gateway_core.errors import PluginError
from gateway_core.hooks import Chain, LoadedPlugin
from gateway_core.pipeline.pipeline import Pipeline
from gateway_core.testing import FakeUpstream, configured, make_call, run_call, run_hook
from tests.downstream.conftest import initialize_request, modern_request
from tests.generations.conftest import Stand, served

HEADERS = {"X-Tenant": "acme", "X-Region": "eu", "X-Other": "o", "Authorization": "Bearer hunter2"}


class Tenants:
    """Refuses the calls of all tenants but one, and keeps the headers that its hooks saw."""

    call_headers = ("x-tenant", "x-absent")

    def __init__(self) -> None:
        self.seen: list[Mapping[str, str]] = []

    @hookimpl
    def before_call(self, call: Call) -> Call | Reject | None:
        self.seen.append(call.headers)
        return None if call.headers.get("x-tenant") == "acme" else Reject("unknown tenant")

    @hookimpl
    def after_call(self, call: Call) -> None:
        self.seen.append(call.headers)


class Regions(Tenants):
    call_headers = ("x-region",)

    @hookimpl
    def before_call(self, call: Call) -> Call:
        self.seen.append(call.headers)
        return call.replace(arguments={"seconds": 0.0})


class Blind(Tenants):
    call_headers = ()

    @hookimpl
    def before_call(self, call: Call) -> None:
        self.seen.append(call.headers)

    @hookimpl
    def observe(self, event: Event) -> None:
        assert isinstance(event, CallEnded)
        assert event.final is not None
        self.seen.append(event.final.headers)


class Routes:
    call_headers = ("x-region",)

    @hookimpl
    def route_tool(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView:
        return next(one for one in candidates if one.name == call.headers["x-region"])


# With the kit


async def test_each_plugin_sees_the_headers_that_it_names_and_no_other() -> None:
    tenants, regions, blind = Tenants(), Regions(), Blind()
    call = make_call("wait", {"seconds": 9}, headers=HEADERS)
    result = await run_call(call, upstream := FakeUpstream(), tenants, configured(regions, name="r"), blind)
    assert result.error is None
    assert dict(upstream.calls[0].arguments) == {"seconds": 0.0}
    assert tenants.seen == [{"x-tenant": "acme"}] * 2
    assert regions.seen == [{"x-region": "eu"}] * 2
    assert blind.seen == [{}] * 3
    with pytest.raises(TypeError):
        tenants.seen[0]["x-tenant"] = "other"  # type: ignore[index]


async def test_a_router_chooses_by_a_header() -> None:
    upstream = FakeUpstream()
    await run_call(make_call(upstreams=["us", "eu"], headers={"X-Region": "eu"}), upstream, Routes)
    assert upstream.chosen == ["eu"]


def test_the_kit_shows_a_hook_what_the_gateway_would() -> None:
    call = make_call(headers=HEADERS)
    assert run_hook(tenants := Tenants(), "before_call", call) is None
    assert tenants.seen == [{"x-tenant": "acme"}]
    run_hook(blind := Blind(), "before_call", call)
    assert blind.seen == [{}]
    assert isinstance(run_hook(Tenants(), "before_call", make_call()), Reject)


def test_no_other_pipeline_has_the_extra_step() -> None:
    def delivery(*plugins: object) -> str:
        made: Any = Pipeline.__new__(Pipeline)
        made.chain = Chain([configured(plugin) for plugin in plugins])
        made.record_all(False)
        return str(made._delivery.__qualname__)

    assert delivery(Routes()) == "_with_headers.<locals>.begin"
    assert delivery() == "Delivery"
    assert delivery(Blind()) == "ObservedDelivery"


# Credentials


class Keys:
    credential_headers = ("x-key",)

    @hookimpl
    def authenticate(self, credentials: Credentials) -> Principal | None:
        return None


@pytest.mark.parametrize("name", ["authorization", "cookie", "proxy-authorization", "mcp-session-id", "x-key"])
def test_a_header_with_credentials_is_refused(name: str) -> None:
    class Curious(Tenants):
        call_headers = ("x-tenant", name)

    with pytest.raises(PluginError, match=f"its call_headers cannot have {name}, which proves who calls"):
        Chain([configured(Keys), configured(Curious)])


@pytest.mark.parametrize("names", ["x-tenant", ("X-Tenant",), ("x tenant",), (7,)])
def test_call_headers_are_names_in_lower_case(names: Any) -> None:
    class Wrong(Tenants):
        call_headers = names

    with pytest.raises(PluginError, match="its call_headers must be a tuple of names of headers in lower case"):
        Chain([configured(Wrong)])


# Through a gateway


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(tmp_path / "mcp-proxy.toml")
    yield made
    await made.gateway.stop()


async def call(url: str, era: str, headers: Mapping[str, str]) -> Any:
    """The answer to a call of `one_pid`."""
    given, body = modern_request("tools/call", {"name": "one_pid", "arguments": {}})
    async with aiohttp.ClientSession(headers={"Accept": "application/json, text/event-stream"}) as http:
        if era == "legacy":
            async with http.post(url, json=initialize_request(), headers=headers) as opened:
                given = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25"}
            del body["params"]["_meta"]
        async with http.post(url, json=body, headers={**given, **headers}) as answer:
            return await answer.text()


@pytest.mark.timeout(180)
async def test_a_gateway_refuses_by_a_header_of_each_request(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    tenants = Tenants()
    real = importlib.import_module("gateway_core.hooks.loader").load

    def load(*given: Any, **more: Any) -> tuple[LoadedPlugin, ...]:
        return (configured(tenants, name="tenants"), *real(*given, **more))

    monkeypatch.setattr("gateway_core.hooks.loader.load", load)
    await stand.start(served("one"))
    url = f"{stand.gateway.address}/mcp"
    for era in ("modern", "legacy"):
        assert "unknown tenant" not in await call(url, era, HEADERS)
        assert "unknown tenant" in await call(url, era, {"X-Tenant": "other"})
        assert "unknown tenant" in await call(url, era, {})
    assert all(set(seen) <= {"x-tenant"} for seen in tenants.seen)
