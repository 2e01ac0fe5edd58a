"""People behind one nginx who log in at a tracker for themselves: official clients of both eras, and a browser.

nginx knows the people by their `Authorization`, and names them to the gateway. The tracker has a certified
authorization server. Without Chromium or nginx on this machine, these tests are skipped.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import answers, wait_until

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "matrix"), str(HERE / "logins")]

from clients import LEGACY_PYTHON  # noqa: E402 - found on the path above
from kit import BROWSER, Tracker, page_of, started_browser, started_tracker  # noqa: E402

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(BROWSER is None or NGINX is None, reason="no Chromium or nginx on this machine")
PEOPLE = {name: "Basic " + base64.b64encode(f"{name}:secret of {name}".encode()).decode() for name in ("ada", "bob")}
PROXY = """
daemon off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  map $http_authorization $person {{ default ""; {people} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      if ($person = "") {{ return 401; }}
      proxy_pass http://127.0.0.1:{gateway};
      proxy_set_header X-Forwarded-User $person;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Host $http_host;
      proxy_http_version 1.1;
      proxy_buffering off;
    }}
    location /oauth/ {{
      proxy_pass http://127.0.0.1:{gateway};
      proxy_set_header X-Forwarded-User $person;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Host $http_host;
      proxy_set_header Referer "";
    }}
  }}
}}
"""


class Office:
    """The gateway behind nginx, its people, and their programs."""

    def __init__(self, launcher: Any, tools: Any, tracker: Tracker, folder: Path) -> None:
        self.launcher, self.tools, self.folder = launcher, tools, folder
        port, public = launcher.free_port(), launcher.free_port()
        self.public = f"http://127.0.0.1:{public}"
        auth = {"grant": "authorization_code", "identity": "user"}
        upstream = {"name": "tracker", "transport": "http", "url": f"{tracker.origin}/mcp", "auth": auth}
        trusted = {"networks": ["127.0.0.1"], "identity_header": "X-Forwarded-User"}
        proxy = {"port": port, "public_url": self.public, "trusted_proxies": trusted, "upstreams": [upstream]}
        self.config = launcher.write(proxy)
        self.gateway = launcher.start(self.config, port)
        people = " ".join(f'"{value}" {name};' for name, value in PEOPLE.items())
        folder.mkdir()
        (folder / "nginx.conf").write_text(PROXY.format(port=public, gateway=port, people=people))
        launcher.processes.start("nginx", str(NGINX), "-p", str(folder), "-e", "stderr", "-c", "nginx.conf")
        wait_until(lambda: answers(self.public) == 401, "nginx asks who it is")

    def agent(self, client: str, person: str, *tools: str) -> subprocess.Popen[str]:
        """A program on an official SDK that calls these tools for a person."""
        program = HERE / "logins" / ("python1.py" if client == "python1" else "agent.mjs")
        start = [str(LEGACY_PYTHON), str(program)] if client == "python1" else [str(self.tools.node), str(program)]
        era = [] if client == "python1" else [client.partition("-")[2]]
        return subprocess.Popen(
            [*start, f"{self.public}/mcp", PEOPLE[person], *era, *tools],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,
        )

    def browse(self, url: str, person: str, *, proves: bool) -> str:
        """Open the page of a login in a browser, press its button, log in and consent. The text of the last page."""
        port = self.launcher.free_port()
        browser = started_browser(self.launcher, self.folder / f"profile-{port}", port)
        try:
            return asyncio.run(_click_through(port, url, person, PEOPLE[person] if proves else ""))
        finally:
            browser.terminate()
            browser.wait(60)


async def _click_through(port: int, url: str, person: str, authorization: str) -> str:
    async with page_of(port) as page:
        if authorization:
            await page.send("Network.enable")
            await page.send("Network.setExtraHTTPHeaders", headers={"Authorization": authorization})
        await page.send("Page.navigate", url=url)
        await page.until("location.pathname.startsWith('/oauth/start/') && document.querySelector('button')")
        assert f"An agent of {person} " in await page.evaluate("document.body.innerText")
        await page.evaluate("document.querySelector('button').click()")
        text = await page.log_in(person, "/oauth/callback")
        return str(await page.evaluate("document.querySelector('pre.code')?.innerText ?? ''") or text)


def said(agent: subprocess.Popen[str]) -> tuple[str, str]:
    """The next line of an agent: its first word, and the rest."""
    assert agent.stdout is not None
    word, _, rest = agent.stdout.readline().strip().partition(" ")
    return word, rest


def finished(agent: subprocess.Popen[str]) -> list[str]:
    out, _ = agent.communicate(timeout=120)
    assert agent.returncode == 0
    return out.splitlines()


@pytest.fixture
def office(launcher: Any, tools: Any, wait_for: Callable[..., None], tmp_path: Path) -> Office:
    tracker = started_tracker(launcher, tools, wait_for, 600)
    return Office(launcher, tools, tracker, tmp_path / "nginx")


def test_two_people_behind_one_nginx_log_in_and_one_loses_exactly_its_own(
    office: Office, wait_for: Callable[..., None]
) -> None:
    ada = office.agent("python1", "ada", "tracker:whoami", "whoami")
    word, url = said(ada)
    assert (word, url.startswith(f"{office.public}/oauth/start/")) == ("open", True)
    assert "You are logged in" in office.browse(url, "ada", proves=True)
    assert finished(ada) == ["result ada", "result ada", "tools search whoami"]

    bob = office.agent("typescript-modern", "bob", "tracker:whoami")
    word, url = said(bob)
    assert word == "open"
    code = office.browse(url, "bob", proves=False)
    assert said(bob) == ("asked", "code")
    assert bob.stdin is not None
    bob.stdin.write(f"{code}\n")
    bob.stdin.flush()
    assert finished(bob) == ["result bob", "tools search whoami"]
    assert office.gateway.upstream("tracker")["login"]["users"] == 2

    logout = [str(office.launcher.rad), "mcp", "proxy", "logout", "tracker", "--as", "ada", "--config"]
    done = subprocess.run([*logout, str(office.config)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "logged out of tracker as ada|proxy\n"), done.stderr
    wait_for(lambda: office.gateway.upstream("tracker")["login"]["users"] == 1, "the gateway notices the logout")
    assert finished(office.agent("typescript-legacy", "bob", "whoami")) == ["result bob", "tools search whoami"]
    ada = office.agent("typescript-legacy", "ada", "tracker:whoami")
    word, url = said(ada)
    assert word == "open", "she has to log in again"
    assert "You are logged in" in office.browse(url, "ada", proves=True)
    assert finished(ada) == ["result ada", "tools search whoami"]
    log = office.launcher.processes.log("gateway")
    assert "Bearer" not in log
    assert url.rpartition("/")[2] not in log
