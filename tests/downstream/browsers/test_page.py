"""The page for a person who opens an endpoint in a browser."""

import base64
import hashlib
import html.parser
import json
import re
from typing import Any

import pytest

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


class Elements(html.parser.HTMLParser):
    """The elements of a page, with their attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self._inside, []).append(data)


@pytest.mark.parametrize("path", ["/", "/mcp", "/mcp/", "/sse"])
async def test_a_browser_gets_a_page(sse_world: Any, path: str) -> None:
    async with sse_world.http.get(sse_world.base + path, headers={"Accept": BROWSER}) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        page = await response.text()
    elements = Elements(page)
    assert elements.text["h1"][0] == "Radium MCP gateway"
    assert elements.text["pre"][0] == sse_world.url
    config = json.loads(next(text for text in elements.text["pre"] if "{" in text))
    assert config["mcpServers"]["radium"]["url"] == sse_world.url
    assert f"{sse_world.base}/sse" in page
    assert not sse_world.downstream.sessions, "no session was opened"


async def test_the_page_does_not_name_a_transport_that_is_off(world: Any) -> None:
    async with world.http.get(world.base, headers={"Accept": BROWSER}) as response:
        assert "/sse" not in await response.text()


async def test_the_page_runs_and_loads_nothing(world: Any) -> None:
    async with world.http.get(world.base, headers={"Accept": BROWSER}) as response:
        policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        page = await response.text()
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (digest,) = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in style]
    nothing = ["default-src", "base-uri", "form-action", "frame-ancestors"]
    assert policy == {**dict.fromkeys(nothing, "'none'"), "style-src": f"'sha256-{digest}'"}
    for tag, attributes in Elements(page).found:
        assert tag not in {"script", "link", "img", "iframe", "object", "form"}
        assert not {"src", "href", "style"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]


async def test_the_page_shows_the_name_by_which_the_browser_came(start: Any) -> None:
    world = await start(allowed_hosts=["gateway.example.com:8443"])
    for host in ["localhost:1", "gateway.example.com:8443"]:
        async with world.http.get(world.base, headers={"Accept": BROWSER, "Host": host}) as response:
            assert f"<pre>http://{host}/mcp</pre>" in await response.text()


@pytest.mark.parametrize("host", ["evil.example", "<script>alert(1)</script>", "localhost:1/><script>"])
async def test_other_names_get_no_page(world: Any, host: str) -> None:
    async with world.http.get(world.base, headers={"Accept": BROWSER, "Host": host}) as response:
        assert response.status in {400, 403}
        assert "<script" not in await response.text()


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "text/event-stream, text/html", "*/*", "application/json", None]
)
async def test_agents_get_no_page(world: Any, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    async with world.http.get(world.base, headers=headers, skip_auto_headers=["Accept"]) as response:
        assert response.status == (406 if accept == "application/json" else 400)
        assert response.content_type == "application/json"


@pytest.mark.parametrize("method", ["POST", "DELETE", "HEAD", "PUT"])
async def test_only_get_gets_the_page(world: Any, method: str) -> None:
    async with world.http.request(method, world.base, headers={"Accept": BROWSER}) as response:
        assert response.content_type == "application/json"
        assert response.status >= 400


async def test_unknown_addresses_get_no_page(world: Any) -> None:
    for path in ("/nowhere", "/favicon.ico", "/messages"):
        async with world.http.get(world.base + path, headers={"Accept": BROWSER}) as response:
            assert response.status == 404
