"""How people reach the control plane: tokens for programs, and a browser that is let in."""

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gateway_core.control.access import PAGE_KEY

pytestmark = pytest.mark.timeout(180)  # several processes start, one after the other


@pytest.fixture
def control(shared_gateway: Path, status: Any) -> str:
    """The address of the control plane of a running gateway."""
    return str(status()["control"])


def status_of(address: str, token: str = "", verb: str = "GET") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method=verb, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_each_token_does_what_it_is_for_and_is_printed_alone(control: str, rad: Any) -> None:
    read, change = rad("token"), rad("token", "--change")
    assert rad("token", "--read").stdout == read.stdout
    assert len({read.stdout, change.stdout}) == 2
    for done in (read, change):
        assert done.returncode == 0
        assert done.stdout.count("\n") == 1
        assert "keep this token secret" in done.stderr
        assert status_of(f"{control}/admin/status", done.stdout.strip()) == 200
    assert status_of(f"{control}/admin/reload", read.stdout.strip(), "POST") == 403
    assert status_of(f"{control}/admin/reload", change.stdout.strip(), "POST") == 200


@pytest.mark.parametrize(("options", "right"), [((), "change"), (("--read-only",), "read")])
def test_the_printed_address_lets_one_browser_in(control: str, rad: Any, options: Any, right: str) -> None:
    done = rad("ui", "--print", *options)
    assert done.returncode == 0, done.stderr
    address = done.stdout.strip()
    assert address.startswith(f"{control}/ui/enter?code=")

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    with pytest.raises(urllib.error.HTTPError) as found:
        urllib.request.build_opener(Stay).open(address)
    assert found.value.code == 303
    page, _, key = found.value.headers["Location"].partition("#key=")
    assert page == "/ui/"
    headers = {"Cookie": found.value.headers["Set-Cookie"].partition(";")[0], PAGE_KEY: key}
    found.value.close()
    with urllib.request.urlopen(urllib.request.Request(f"{control}/admin/me", headers=headers)) as me:
        assert json.load(me)["right"] == right
    assert status_of(address) == 403


BROWSER = """#!{python}
import os, re, sys, urllib.request
from pathlib import Path
Path("argument").write_text(sys.argv[1])
page = Path(sys.argv[1].removeprefix("file://"))
Path("mode").write_text(oct(os.stat(page).st_mode & 0o777))
try:
    urllib.request.urlopen(re.search('url=(http[^"]*)"', page.read_text())[1])
except urllib.error.HTTPError:
    pass
"""


def test_the_address_reaches_the_browser_in_a_file_that_only_its_owner_reads(
    control: str, rad: Any, project: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arguments of a process can be read by every user of the machine."""
    browser = project / "browser"
    browser.write_text(BROWSER.format(python=sys.executable))
    browser.chmod(0o755)
    monkeypatch.setitem(environment, "BROWSER", f"{browser} %s")
    done = rad("ui")
    assert done.returncode == 0, done.stderr
    argument = (project / "argument").read_text()
    assert argument.startswith("file://")
    assert "code" not in argument
    assert (project / "mode").read_text() == "0o600"
    assert not Path(argument.removeprefix("file://")).exists()


@pytest.mark.parametrize("command", ["token", "ui"])
def test_without_a_gateway_there_is_nothing_to_reach(rad: Any, command: str) -> None:
    done = rad(command)
    assert done.returncode == 3
    assert "not running" in done.stderr
