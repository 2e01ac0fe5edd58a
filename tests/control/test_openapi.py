"""The description of the API: valid, complete, and nothing in it that is not there."""

from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway_core import Page
from gateway_core.control import Access, BrowserSessions
from gateway_core.control.access import PAGE_KEY
from gateway_core.control.app import application
from gateway_core.control.endpoint import Endpoint, WebPage
from gateway_core.control.table import table
from gateway_core.hooks.pages import PluginPage
from gateway_core.http1.hosts import HostGuard
from tests.control.conftest import READ, FakeOperations


@pytest.fixture
async def described(plane: Any) -> Any:
    plane.operations.pages = {"/figures": PluginPage("figures", Page("/figures", lambda status: b"x"))}
    async with plane.get("/admin/openapi.json", f"Bearer {READ}") as answer:
        assert answer.status == 200
        return await answer.json()


def operations(described: Any) -> Iterator[tuple[str, str, Any]]:
    return ((path, method, found) for path, item in described["paths"].items() for method, found in item.items())


def test_the_description_is_valid(described: Any) -> None:
    assert described["openapi"] == "3.1.0"
    validate(described)


def test_it_names_every_route_and_no_other(described: Any) -> None:
    fake = FakeOperations()
    access = Access("a", "b", BrowserSessions())
    app = application(table(fake), fake, access, lambda: HostGuard("localhost"), None)  # type: ignore[arg-type]
    routes = {
        (resource.canonical, route.method)
        for resource in app.router.resources()
        for route in resource
        if route.method != "HEAD"
    }
    named = {(path, method.upper()) for path, method, _ in operations(described)}
    assert named - routes == {("/figures", "GET")}
    assert routes - named == set()


def test_each_operation_says_who_may_use_it_and_what_goes_wrong(described: Any) -> None:
    for endpoint in table(FakeOperations()):
        method = endpoint.method.lower() if isinstance(endpoint, Endpoint) else "get"
        found = described["paths"][endpoint.path][method]
        assert found["summary"] == endpoint.summary
        schemes = {name for choice in found["security"] for name in choice}
        right = "open" if isinstance(endpoint, WebPage) else endpoint.right
        assert (
            schemes
            == {
                "open": set(),
                "read": {"readToken", "changeToken", "browser", "pageKey"},
                "change": {"changeToken", "browser", "pageKey"},
            }[right]
        )
        assert {"400", "403"} <= found["responses"].keys()
        assert ("401" in found["responses"]) == (right != "open")
        assert ("404" in found["responses"]) or "{" not in endpoint.path


def test_errors_have_one_form(described: Any) -> None:
    for path, method, found in operations(described):
        for status, response in found["responses"].items():
            if int(status) < 400 or (path == "/readyz" and status == "503"):
                continue
            schema = response["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Error"}, (path, method, status)


def test_parameters_and_bodies_are_described(described: Any) -> None:
    tool = described["paths"]["/admin/tool"]["get"]
    assert [(one["name"], one["in"], bool(one["description"])) for one in tool["parameters"]] == [
        ("name", "query", True),
        ("profile", "query", True),
        ("agent", "query", True),
    ]
    cancel = described["paths"]["/admin/calls/{id}/cancel"]["post"]
    assert [(one["name"], one["in"], one["required"]) for one in cancel["parameters"]] == [("id", "path", True)]
    login = described["paths"]["/admin/browser-logins"]["post"]["requestBody"]
    assert login["required"]
    assert login["content"]["application/json"]["schema"]["$ref"].endswith("/Login")


def test_the_cookie_is_that_of_this_listener(plane: Any, described: Any) -> None:
    assert described["components"]["securitySchemes"]["browser"]["name"] == f"radium-{plane.control.port}"
    assert described["components"]["securitySchemes"]["pageKey"]["name"] == PAGE_KEY
    assert {"browser": [], "pageKey": []} in described["paths"]["/admin/status"]["get"]["security"]


def test_pages_of_plugins_are_described(described: Any) -> None:
    page = described["paths"]["/figures"]["get"]
    assert "figures" in page["summary"]
    assert list(page["responses"]["200"]["content"]) == ["text/plain"]
