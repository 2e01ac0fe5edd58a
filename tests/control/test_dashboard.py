"""The files of the dashboard as browsers get them."""

from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway_core.control.dashboard import FOLDER, TYPES, Dashboard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "dashboard"
    (folder / "pages").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>x</title>")
    (folder / "app.js").write_text("export {}")
    (folder / "pages" / "first.js").write_text("export const first = 1")
    (folder / "README.md").write_text("not for browsers")
    (tmp_path / "secret.js").write_text("secret")
    (folder / "link.js").symlink_to(tmp_path / "secret.js")
    return folder


@pytest.fixture
async def ui(start: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(import_module("gateway_core.control.table"), "Dashboard", lambda: Dashboard(folder))
    return await start()


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("/ui/", "text/html; charset=utf-8", "<!doctype html><title>x</title>"),
        ("/ui/index.html", "text/html; charset=utf-8", "<!doctype html><title>x</title>"),
        ("/ui/app.js", "text/javascript; charset=utf-8", "export {}"),
        ("/ui/pages/first.js", "text/javascript; charset=utf-8", "export const first = 1"),
    ],
)
async def test_files_need_no_token_and_may_load_nothing_from_elsewhere(
    ui: Any, path: str, kind: str, text: str
) -> None:
    async with ui.get(path, None) as answer:
        assert (answer.status, await answer.text(), answer.headers["Content-Type"]) == (200, text, kind)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_a_browser_that_has_a_file_gets_it_again_only_when_it_changes(ui: Any, folder: Path) -> None:
    async with ui.get("/ui/app.js", None) as answer:
        etag = answer.headers["ETag"]
        assert answer.headers["Cache-Control"] == "no-cache"
    async with ui.get("/ui/app.js", None, **{"If-None-Match": f'"other", W/{etag}'}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    (folder / "app.js").write_text("export const changed = true")
    async with ui.get("/ui/app.js", None, **{"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.text()) == (200, "export const changed = true")


async def test_head_has_the_headers_alone(ui: Any) -> None:
    async with ui.get("/ui/app.js", None, method="HEAD") as answer:
        assert (answer.status, answer.headers["Content-Length"], await answer.read()) == (200, "9", b"")
        assert "ETag" in answer.headers


@pytest.mark.parametrize("path", ["/", "/ui"])
async def test_the_root_leads_to_the_dashboard(ui: Any, path: str) -> None:
    async with ui.http.get(ui.control.address + path, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/ui/")


@pytest.mark.parametrize(
    "path",
    [
        b"/ui/nothing.js",
        b"/ui/README.md",
        b"/ui/link.js",
        b"/ui/pages",
        b"/ui/pages/",
        b"/ui//app.js",
        b"/ui/../secret.js",
        b"/ui/%2e%2e/secret.js",
        b"/ui/..%2fsecret.js",
        b"/ui/pages/..%2f..%2f..%2fsecret.js",
        b"/ui/%2Fetc%2Fpasswd",
        b"/ui/app.js%00",
    ],
)
async def test_no_path_leads_to_other_files(ui: Any, path: bytes) -> None:
    answer = await ui.raw(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
    assert b"secret" not in answer


async def test_files_are_only_read(ui: Any) -> None:
    async with ui.get("/ui/app.js", method="POST") as answer:
        assert answer.status == 405


async def test_files_are_for_allowed_hosts_alone(ui: Any) -> None:
    async with ui.get("/ui/", None, Host="evil.example") as answer:
        assert answer.status == 403


async def test_the_dashboard_of_this_package_is_served(plane: Any) -> None:
    served = [path for path in FOLDER.rglob("*") if path.suffix in TYPES]
    assert FOLDER / "index.html" in served
    for path in served:
        async with plane.get(f"/ui/{path.relative_to(FOLDER).as_posix()}", None) as answer:
            assert (answer.status, await answer.read()) == (200, path.read_bytes())


async def test_a_person_who_opens_the_address_gets_the_page(plane: Any) -> None:
    async with aiohttp.ClientSession() as browser, browser.get(plane.control.address) as answer:
        assert answer.status == 200
        assert '<div id="app">' in await answer.text()
