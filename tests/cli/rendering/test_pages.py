import pytest

from gateway_core.cli.rendering import pages

UPSTREAM = {
    "name": "time",
    "transport": "stdio",
    "target": "uvx",
    "priority": 1,
    "group": None,
    "state": "down",
    "era": None,
    "protocol_version": None,
    "server": None,
    "tools": 2,
    "resources": 0,
    "prompts": 0,
    "warnings": ["prompts/list of upstream time failed\x1b[2J"],
    "lists": "last known",
    "lists_age": 3700.0,
    "in_flight": 0,
    "calls": 12,
    "errors": 3,
    "latency_ms": 1.25,
    "last_error": "refused\x1b[2J [red]x[/red]",
    "next_retry_in": 61.0,
    "login": None,
}
PLUGIN = {"name": "routing_priority", "version": "0.1.0", "hooks": ["route_tool"], "on_error": "reject", "warnings": []}
STATUS = {
    "pid": 4711,
    "version": "0.1.0",
    "started": 0.0,
    "uptime": 7500.0,
    "address": "http://127.0.0.1:3000",
    "control": "http://127.0.0.1:4711",
    "transport": "http",
    "config": "/x/mcp-proxy.toml",
    "ready": False,
    "draining": False,
    "connections": 1,
    "sessions": 2,
    "in_flight": 3,
    "calls": 120,
    "memory": {"used": 60 * 1024 * 1024, "limit": 2048 * 1024 * 1024},
    "upstreams": [UPSTREAM],
    "log": {"warnings": []},
    "plugins": [PLUGIN],
}


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def test_status_shows_all_that_was_promised(capsys):
    pages.show_status(STATUS)
    shown = capsys.readouterr().out
    addresses = ("http://127.0.0.1:3000/mcp", "http://127.0.0.1:4711")
    for text in ("pid 4711", "2 h 5 min", *addresses, "1 connection,", "2 sessions", "120 so far", "60 of 2,048 MiB"):
        assert text in shown
    for text in (
        "time",
        "down",
        "12",
        "1.2 ms",
        "in 1 min 1 s",
        "not ready",
        "routing_priority",
        "last known, 1 h 1 min",
    ):
        assert text in shown


def test_texts_of_upstreams_are_neither_markup_nor_control(capsys):
    pages.show_status(STATUS)
    shown = capsys.readouterr().out
    assert "refused\\x1b[2J [red]x[/red]" in shown
    assert "warning: prompts/list of upstream time failed\\x1b[2J" in shown


def test_a_table_in_a_pipe_is_not_cut_to_a_narrow_terminal(capsys):
    pages.show_status(STATUS)
    assert len([line for line in capsys.readouterr().out.splitlines() if "1.2 ms" in line and "time" in line]) == 1


def test_a_gateway_that_has_no_address_for_agents_yet_says_so(capsys):
    pages.show_status({**STATUS, "address": ""})
    assert "none yet: the gateway is starting" in capsys.readouterr().out


def test_a_colour_is_for_its_column_alone(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    pages.show_status({**STATUS, "ready": True, "upstreams": [{**UPSTREAM, "name": "down", "state": "healthy"}]})
    shown = capsys.readouterr().out
    assert "\x1b[32mhealthy" in shown
    assert "\x1b[31m" not in shown


def test_columns_stand_under_their_names_whatever_the_width_of_letters(capsys):
    pages.show_status({**STATUS, "upstreams": [UPSTREAM, {**UPSTREAM, "name": "時計"}, {**UPSTREAM, "name": "a" * 30}]})
    head, rule, *rows = capsys.readouterr().out.partition("\n\n")[2].splitlines()[:5]
    assert set(rule) == {"─"}
    cells = [line.replace("時計", "12ab") for line in rows]
    assert {line.index("down") for line in cells} == {head.index("state")}
    assert {line.index("1.2 ms") + 6 for line in cells} == {head.index("latency") + 7}


def test_a_state_has_a_colour_on_a_terminal_that_has_some(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    pages.show_status(STATUS)
    assert "\x1b[31mdown\x1b[0m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    pages.show_status(STATUS)
    assert "\x1b" not in capsys.readouterr().out


def test_status_without_upstreams_says_what_to_add(capsys):
    pages.show_status({**STATUS, "upstreams": [], "transport": "sse"})
    shown = capsys.readouterr().out
    assert "[[mcp.proxy.upstreams]]" in shown
    assert "http://127.0.0.1:3000/sse" in shown


def test_start_summary_lists_upstreams_and_plugins_in_order():
    shown = pages.start_summary(STATUS)
    assert "http://127.0.0.1:3000/mcp" in shown
    assert "http://127.0.0.1:4711" in shown
    assert "time  stdio  uvx  priority 1" in shown
    assert "routing_priority" in shown


def test_tools_show_conflicts_with_their_outcome_and_warnings(capsys):
    claims = [{"upstreams": ["a"], "published": "x"}, {"upstreams": ["b"], "published": None}]
    pages.show_tools(
        {
            "tools": [{"name": "x", "original_name": "x", "upstreams": ["a"], "description": "does\nthings " * 40}],
            "conflicts": [{"kind": "tool", "name": "x", "outcome": "the first keeps it", "claims": claims}],
            "notes": ["a and b are replicas"],
            "warnings": ["a: too many"],
        }
    )
    shown = capsys.readouterr().out
    assert "does things" in shown
    assert "…" not in shown
    assert "the first keeps it" in shown
    assert "a: published as x" in shown
    assert "b: dropped" in shown
    assert "note: a and b are replicas" in shown
    assert "warning: a: too many" in shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (185, "3 min 5 s"), (7500, "2 h 5 min"), (90_000, "1 d 1 h")]
)
def test_durations(seconds, text):
    assert pages.duration(seconds) == text


LOGIN = {
    "needed": False,
    "reason": None,
    "issuer": "https://auth.example.com",
    "scopes": ["read"],
    "wanted": [],
    "expires_in": 3700.0,
    "renewable": True,
    "users": None,
    "users_due": None,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "logged in at https://auth.example.com, the access token is renewed in 1 h 1 min"),
        ({"renewable": False}, "logged in at https://auth.example.com, the login ends in 1 h 1 min"),
        ({"expires_in": None, "issuer": None}, "logged in"),
        (
            {"expires_in": None, "wanted": ["write", "admin"]},
            "logged in at https://auth.example.com; it asks for more scopes (write admin), to grant them: "
            "rad mcp proxy login time",
        ),
        (
            {"needed": True, "reason": "there is no login"},
            "needs a login, there is no login; to log in: rad mcp proxy login time",
        ),
        ({"users": 3, "users_due": 0}, "3 users logged in; its lists are those of the operator's login"),
        (
            {"users": 3, "users_due": 1},
            "3 users logged in, 1 of them must log in again; its lists are those of the operator's login",
        ),
    ],
)
def test_a_login_is_told_with_what_to_do(capsys, changes, words):
    state = "needs_login" if changes.get("needed") else "healthy"
    pages.show_status({**STATUS, "upstreams": [{**UPSTREAM, "state": state, "login": {**LOGIN, **changes}}]})
    shown = capsys.readouterr().out
    assert f"time: {words}\n" in shown
    assert ("last error" in shown) == (state == "healthy")


def test_status_shows_what_is_wrong_with_the_log_and_with_plugins(capsys):
    plugin = {**PLUGIN, "warnings": ["the disk is full\x1b[2J"]}
    problem = "mcp.proxy.tls.key: holds no private key in PEM; the certificate in use stays"
    certificate = {"names": [], "expires": 2e9, "client_certificate": "none", "problem": problem}
    warnings = {"log": {"warnings": ["the log cannot be written"]}, "certificate": certificate}
    pages.show_status({**STATUS, **warnings, "plugins": [PLUGIN, plugin]})
    shown = capsys.readouterr().out
    assert f"warning: {problem}\n" in shown
    assert "warning: the log cannot be written" in shown
    assert "warning: routing_priority: the disk is full" in shown
    assert "\x1b[2J" not in shown
