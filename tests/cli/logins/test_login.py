"""`rad mcp proxy login`, as its user sees it: with and without a running gateway."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gateway_core.cli.logins import login as module
from gateway_core.cli.report import Failed

pytestmark = pytest.mark.timeout(240)  # each test runs many commands


def upstream(rad: Any) -> dict[str, Any]:
    """What `status` says about the tracker."""
    return next(one for one in json.loads(rad("status", "--json").stdout)["upstreams"] if one["name"] == "tracker")


def test_a_login_without_a_gateway_is_there_for_the_next_start(
    with_tracker: Path, rad: Any, log_in: Any, tracker: Any
) -> None:
    before = rad("check", "--connect")
    assert before.returncode == 1
    assert "login   tracker" in before.stdout
    assert "needs a login, there is no login; to log in: rad mcp proxy login tracker" in before.stdout
    code, out, err, (status, page) = log_in()
    assert (code, status) == (0, 200), err
    assert "You are logged in" in page
    file = with_tracker / ".radium" / "mcp-proxy.logins"
    assert f"logged in to tracker at {tracker.origin}; the login is kept in {file}" in out
    assert "the gateway does not run; to start it: rad mcp proxy start" in out
    for path in file.parent.glob("mcp-proxy.logins*"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"hidden" not in path.read_bytes()
    after = rad("check", "--connect")
    assert after.returncode == 0, after.stdout
    assert f"1 tool; logged in at {tracker.origin}, the access token is renewed in 59 min" in after.stdout
    called = rad("call", "search")
    assert called.stdout.strip() == "you are Bearer [REDACTED]", "not even the operator sees a token"


def test_a_running_gateway_waits_for_the_login_and_uses_it_at_once(
    with_tracker: Path, rad: Any, spawn: Any, log_in: Any, tracker: Any, wait_for_upstream: Any
) -> None:
    gateway = spawn("start")
    wait_for_upstream("tracker", "needs_login")
    wait_for_upstream()
    shown = rad("status").stdout
    assert "tracker: needs a login, there is no login; to log in: rad mcp proxy login tracker" in shown
    assert "tracker: last error" not in shown
    asked = len(tracker.calls)
    time.sleep(2.0)
    assert len(tracker.calls) == asked, "it is not asked again and again"
    refused = rad("call", "tracker:search")
    assert refused.returncode == 1
    assert "rad mcp proxy login tracker" in refused.stderr + refused.stdout
    assert rad("call", "add", "--arg", "a=2", "--arg", "b=3").stdout.strip() == "5", "others are not harmed"

    code, out, err, _ = log_in()
    assert code == 0, err
    assert "the running gateway uses it: 1 tool" in out
    wait_for_upstream("tracker")
    login = upstream(rad)["login"]
    assert (login["needed"], login["issuer"], login["renewable"]) == (False, tracker.origin, True)
    assert f"tracker: logged in at {tracker.origin}, the access token is renewed in" in rad("status").stdout
    assert rad("call", "search").returncode == 0

    tracker.valid.clear()
    tracker.refresh.clear()
    wait_for_upstream("tracker", "needs_login")
    assert "invalid_grant" in upstream(rad)["login"]["reason"]
    code, out, err, _ = log_in()
    assert "the running gateway uses it: 1 tool" in out
    assert tracker.registered == 1, "the client is used again"
    gateway.terminate()
    log = gateway.communicate(timeout=50)[1]
    assert "hidden-" not in log + shown + out + err
    assert log.count("a login is needed") < 8, "it is not logged again and again"


def test_an_answer_of_another_login_does_not_end_it(with_tracker: Path, spawn: Any, browse: Any) -> None:
    child = spawn("login", "tracker", "--no-browser")
    address = child.stdout.readline().strip()
    port = address.partition("127.0.0.1%3A")[2].partition("%2F")[0] or address.partition("redirect_uri=")[2][17:22]
    status, page = browse(f"http://127.0.0.1:{int(port)}/callback?code=stolen&state=guessed")
    assert (status, "Not this login" in page) == (400, True)
    assert browse(address)[0] == 200
    assert child.wait(30) == 0


def test_a_person_who_declines_ends_the_login(with_tracker: Path, log_in: Any, tracker: Any) -> None:
    tracker.denies = True
    code, out, err, (status, page) = log_in()
    assert (code, out, status) == (1, "", 400)
    assert "The login failed" in page
    assert err.endswith("error: no login at upstream tracker: the authorization server refused (access_denied)\n")


def test_the_browser_is_opened(
    with_tracker: Path, spawn: Any, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "browser.py"
    script.write_text("import sys, urllib.request\nurllib.request.urlopen(sys.argv[1], timeout=30).read()\n")
    monkeypatch.setitem(environment, "BROWSER", f"{sys.executable} {script} %s")
    out, err = (child := spawn("login", "tracker")).communicate(timeout=50)
    assert child.returncode == 0, err
    assert "opening a browser to log in to tracker; if none opens, go to:" in err
    assert "logged in to tracker" in out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("calculator", "upstream calculator has no login\n  for a server that needs one, write this below its entry:"),
        ("nothing", "there is no upstream nothing; those with a login are: tracker"),
    ],
)
def test_only_upstreams_with_the_grant_have_a_login(with_tracker: Path, rad: Any, name: str, words: str) -> None:
    for command in ("login", "logout"):
        found = rad(command, name)
        assert found.returncode == 2
        assert words in found.stderr


def test_an_upstream_that_is_not_there_says_so(project: Path, rad: Any) -> None:
    with (project / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write(
            '[[mcp.proxy.upstreams]]\nname = "tracker"\ntransport = "http"\nurl = "http://127.0.0.1:1/mcp"\n'
            'auth = { grant = "authorization_code" }\n'
        )
    found = rad("login", "tracker")
    assert found.returncode == 1
    assert "upstream tracker cannot be asked how to log in: " in found.stderr


def test_a_damaged_file_is_replaced_by_a_login(with_tracker: Path, rad: Any, log_in: Any) -> None:
    assert log_in()[0] == 0
    file = with_tracker / ".radium" / "mcp-proxy.logins"
    file.write_text("{}")
    assert "needs a login" in rad("check", "--connect").stdout
    assert log_in()[0] == 0
    assert rad("check", "--connect").returncode == 0


def test_a_key_that_others_may_read_stops_the_login(with_tracker: Path, rad: Any, log_in: Any) -> None:
    assert log_in()[0] == 0
    key = with_tracker / ".radium" / "mcp-proxy.logins-key"
    key.chmod(0o644)
    found = rad("login", "tracker")
    assert found.returncode == 1
    assert f"its key file {key} is not used: others may read it; run: chmod 600 {key}" in found.stderr


def test_a_browser_that_never_comes_back_ends_the_login(
    with_tracker: Path, tracker: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "WAIT", 0.3)
    with pytest.raises(Failed, match="did not come back within") as caught:
        module.login(with_tracker / ".radium" / "mcp-proxy.toml", "tracker", browser=False)
    assert "forget the client: rad mcp proxy logout tracker" in str(caught.value)
    assert capsys.readouterr().out.startswith(f"{tracker.origin}/authorize?")
