"""Who may do what on the control plane, by token and by cookie."""

from typing import Any

import pytest

from gateway_core.control.access import PAGE_KEY
from tests.control.conftest import READ

READING = [
    "/admin/status",
    "/admin/tools",
    "/admin/tool?name=x",
    "/admin/calls",
    "/admin/sessions",
    "/admin/diff",
    "/admin/plugins",
]
CHANGING = ["/admin/reload", "/admin/calls/a1%2Fb/cancel", "/admin/sessions/k/end", "/admin/upstreams/files/reconnect"]


@pytest.mark.parametrize("path", READING)
async def test_the_read_token_reads(plane: Any, path: str) -> None:
    async with plane.get(path, f"Bearer {READ}") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("path", CHANGING)
async def test_the_read_token_changes_nothing(plane: Any, path: str) -> None:
    async with plane.get(path, f"Bearer {READ}", method="POST") as answer:
        assert answer.status == 403
        assert "may only read" in (await answer.json())["error"]
    assert plane.operations.done == []


async def test_an_empty_read_token_lets_no_request_in(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.control.conftest.READ", "")
    plane = await start("sesame")
    for authorization in ("Bearer ", "Bearer"):
        async with plane.get("/admin/status", authorization) as answer:
            assert answer.status == 401


@pytest.fixture
def browser(plane: Any) -> dict[str, str]:
    """The headers of a browser that may change things."""
    return browser_with(plane, "change")


def browser_with(plane: Any, right: Any) -> dict[str, str]:
    session = plane.operations.browsers.enter(plane.operations.browsers.issue(right).secret)
    assert session is not None
    return {"Cookie": f"radium-{plane.control.port}={session.secret}", PAGE_KEY: session.page_key}


@pytest.mark.parametrize(("right", "changed"), [("change", 200), ("read", 403)])
async def test_a_cookie_has_the_right_that_it_was_made_with(plane: Any, right: str, changed: int) -> None:
    browser = browser_with(plane, right)
    async with plane.get("/admin/me", None, **browser) as answer:
        assert (answer.status, (await answer.json())["right"]) == (200, right)
    here = {**browser, "Origin": plane.control.address}
    async with plane.get("/admin/reload", None, method="POST", **here) as answer:
        assert answer.status == changed


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "{here}"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "{here}", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_a_page_of_the_control_plane_may_change_things(
    plane: Any, browser: dict[str, str], headers: dict[str, str]
) -> None:
    headers = {name: value.format(here=plane.control.address) for name, value in headers.items()}
    async with plane.get("/admin/reload", None, method="POST", **browser, **headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost:{port}"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "{here}", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_a_page_of_another_port_or_site_changes_nothing(
    plane: Any, browser: dict[str, str], headers: dict[str, str]
) -> None:
    """Browsers send the cookie to every port of this host, also from pages of other ports."""
    headers = {
        name: value.format(here=plane.control.address, port=plane.control.port) for name, value in headers.items()
    }
    async with plane.get("/admin/calls/a1%2Fb/cancel", None, method="POST", **browser, **headers) as answer:
        assert answer.status in {401, 403}
    assert plane.operations.done == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 401),
        ({"Sec-Fetch-Site": "cross-site"}, 401),
        ({"Origin": "http://127.0.0.1:1"}, 401),
    ],
)
async def test_a_page_of_another_port_reads_nothing(
    plane: Any, browser: dict[str, str], headers: dict[str, str], status: int
) -> None:
    async with plane.get("/admin/status", None, **browser, **headers) as answer:
        assert answer.status == status
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_wrong_token_is_not_made_up_for_by_a_cookie(plane: Any, browser: dict[str, str]) -> None:
    async with plane.get("/admin/status", "Bearer wrong", **browser) as answer:
        assert answer.status == 401


@pytest.mark.parametrize("made", ["radium-{port}=wrong", "radium-{port}=", "radium={secret}", "radium-1={secret}"])
async def test_another_cookie_is_no_right(plane: Any, browser: dict[str, str], made: str) -> None:
    made = made.format(port=plane.control.port, secret=browser["Cookie"].partition("=")[2])
    async with plane.get("/admin/status", None, **{**browser, "Cookie": made}) as answer:
        assert answer.status == 401


@pytest.mark.parametrize("key", [None, "", "wrong", "ä"])
async def test_a_program_on_another_port_that_gets_the_cookie_can_do_nothing_with_it(
    plane: Any, browser: dict[str, str], key: str | None
) -> None:
    """Browsers send the cookie to every port of its host, and programs can make up every other header."""
    stolen = {"Cookie": browser["Cookie"], "Origin": plane.control.address, "Sec-Fetch-Site": "same-origin"}
    stolen |= {} if key is None else {PAGE_KEY: key}
    for method, path in (("GET", "/admin/status"), ("POST", "/admin/reload")):
        async with plane.get(path, None, method=method, **stolen) as answer:
            assert answer.status == 401


async def test_a_page_of_a_plugin_is_read_with_every_right(plane: Any, browser: dict[str, str]) -> None:
    from gateway_core import Page
    from gateway_core.hooks.pages import PluginPage

    plane.operations.pages = {"/figures": PluginPage("figures", Page("/figures", lambda status: b"x"))}
    async with plane.get("/figures", f"Bearer {READ}") as answer:
        assert answer.status == 200
    async with plane.get("/figures", None, **browser) as answer:
        assert answer.status == 200
