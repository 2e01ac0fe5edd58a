"""Renders status and tools as text for people.

Names, descriptions and errors come from upstreams, so every text is escaped and never read as markup.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway_core.cli.hints import command
from gateway_core.cli.rendering.table import GREEN, RED, YELLOW, painted, sentence, show_table
from gateway_core.log.escaping import escape
from gateway_core.log.wording import count

STATE_COLOURS: Final = {
    "healthy": GREEN,
    "idle": GREEN,
    "connecting": YELLOW,
    "ejected": YELLOW,
    "needs_login": YELLOW,
    "down": RED,
    "misconfigured": RED,
}
MIB: Final = 1024 * 1024


def start_summary(status: Mapping[str, Any]) -> str:
    """The text that `start` prints on a terminal once it listens."""
    upstreams = [
        f"{escape(one['name'])}  {one['transport']}  {escape(one['target'])}  {_note(one)}"
        for one in status["upstreams"]
    ]
    plugins = ", ".join(one["name"] for one in status["plugins"])
    lines = [
        f"Radium MCP gateway {status['version']}, pid {status['pid']}",
        *_row("agents connect to", [endpoint(status)]),
        *_row("control plane", [status["control"]]),
        *_row("configuration", [escape(str(status["config"]))]),
        *_row("upstreams", upstreams or ["none yet; add [[mcp.proxy.upstreams]] to the configuration"]),
        *_row("plugins, in order", [plugins or "none"]),
        *_row("to stop it", [f"Ctrl+C, or: {command('stop')}"]),
    ]
    return "\n".join(lines)


def _note(one: Mapping[str, Any]) -> str:
    """The priority, or why the upstream is not used."""
    return one["state"] if one["state"] in {"disabled", "misconfigured"} else f"priority {one['priority']}"


def _row(label: str, values: Sequence[str]) -> list[str]:
    return [f"  {label if not index else '':<18} {value}" for index, value in enumerate(values)]


def endpoint(status: Mapping[str, Any]) -> str:
    """The URL that agents connect to, or why there is none."""
    if not status["address"]:
        return "none yet: the gateway is starting, or agents connect over stdin and stdout"
    return f"{status['address']}/{'sse' if status['transport'] == 'sse' else 'mcp'}"


def _certificate(found: Mapping[str, Any] | None) -> dict[str, str]:
    """The row about the certificate that agents see; none without TLS."""
    if found is None:
        return {}
    names = ", ".join(escape(str(name)) for name in found["names"]) or "no names"
    left = found["expires"] - time.time()
    ends = f"expires in {duration(left)}" if left > 0 else painted("expired", RED)
    asks = found["client_certificate"]
    clients = "" if asks == "none" else f"; client certificates are {asks}"
    return {"certificate": f"{names}; {ends}{clients}"}


def _unseen(changes: int) -> dict[str, str]:
    """A line about changed definitions, unless operators have seen all of them."""
    return {"definitions": f"{count(changes, 'unseen change')}; {command('definitions')} shows them"} if changes else {}


def show_status(status: Mapping[str, Any]) -> None:
    """Print the response of GET `/admin/status`."""
    if status["draining"]:
        state = painted("draining", YELLOW)
    elif status["ready"]:
        state = painted("ready", GREEN)
    else:
        state = painted("not ready", RED) + ": no upstream is reachable"
    plugins = ", ".join(escape(str(one["name"])) for one in status["plugins"])
    head = {
        "running": f"pid {status['pid']}, up {duration(status['uptime'])}, version {status['version']}, {state}",
        "address": endpoint(status),
        **_certificate(status.get("certificate")),
        "control plane": status["control"],
        "configuration": escape(str(status["config"])),
        "agents": f"{count(status['connections'], 'connection')}, {count(status['sessions'], 'session')}",
        "calls": f"{status['calls']} so far, {status['in_flight']} in flight",
        **_unseen(status.get("unseen_changes", 0)),
        "memory": f"{status['memory']['used'] / MIB:,.0f} of {status['memory']['limit'] / MIB:,.0f} MiB",
        "plugins, in order": plugins or "none",
    }
    for label, value in head.items():
        print(f"{label:<18} {value}")
    for text in _warnings(status):
        print(sentence(f"warning: {text}"))
    if not status["upstreams"]:
        print(f"{'upstreams':<18} none; add [[mcp.proxy.upstreams]] to the configuration")
        return
    _show_upstreams(status["upstreams"])
    for one in status["upstreams"]:
        if one["login"] is not None:
            print(sentence(f"{one['name']}: {login_note(one)}"))
        if one["last_error"] and one["state"] != "needs_login":  # below the table, because it is too long for a column
            print(sentence(f"{one['name']}: last error: {one['last_error']}"))
        for warning in one["warnings"]:
            print(sentence(f"warning: {warning}"))


def _warnings(status: Mapping[str, Any]) -> list[str]:
    """The warnings of the gateway itself and of its plugins."""
    of_plugins = [f"{one['name']}: {text}" for one in status["plugins"] for text in one["warnings"]]
    problem = (status.get("certificate") or {}).get("problem")
    return [*filter(None, [problem]), *status["log"]["warnings"], *of_plugins]


def _show_upstreams(upstreams: Sequence[Mapping[str, Any]]) -> None:
    colours = {("state", state): colour for state, colour in STATE_COLOURS.items()}
    names = ("upstream", "state", "era", "tools", "lists", "calls", "errors", "latency", "next retry")
    print()
    numbers = {"tools", "calls", "errors", "latency"}
    show_table(names, map(_upstream, upstreams), right=numbers, colours=colours, whole={"upstream", "state"})
    print()


def _upstream(one: Mapping[str, Any]) -> list[str]:
    latency, retry, age = one["latency_ms"], one["next_retry_in"], one["lists_age"]
    return [
        one["name"],
        one["state"],
        one["era"] or "-",
        str(one["tools"]),
        one["lists"] if age is None else f"{one['lists']}, {duration(age)}",
        str(one["calls"]),
        str(one["errors"]),
        "-" if latency is None else f"{latency:.1f} ms",
        "-" if retry is None else f"in {duration(retry)}",
    ]


def login_note(one: Mapping[str, Any]) -> str:
    """The state of an upstream's login, and what to do about it."""
    login, again = one["login"], command(f"login {one['name']}")
    if login["users"] is not None:
        of_users = f"{count(login['users'], 'user')} logged in"
        if login["users_due"]:
            of_users += f", {login['users_due']} of them must log in again"
        return of_users if login["needed"] else f"{of_users}; its lists are those of the operator's login"
    if login["needed"]:
        return f"needs a login, {login['reason']}; to log in: {again}"
    words = f"logged in at {login['issuer']}" if login["issuer"] is not None else "logged in"
    if login["expires_in"] is not None:
        end = "the access token is renewed" if login["renewable"] else "the login ends"
        words += f", {end} in {duration(login['expires_in'])}"
    if login["wanted"]:
        words += f"; it asks for more scopes ({' '.join(login['wanted'])}), to grant them: {again}"
    return words


def show_tools(answer: Mapping[str, Any]) -> None:
    """Print the response of GET `/admin/tools`."""
    rows = [[one["name"], ", ".join(one["upstreams"]), one["description"]] for one in answer["tools"]]
    if rows:
        show_table(("tool", "upstreams", "description"), rows)
    else:
        print("no tools")
    for conflict in answer["conflicts"]:
        print(sentence(f"{conflict['kind']} {conflict['name']} is claimed more than once: {conflict['outcome']}"))
        for claim in conflict["claims"]:
            outcome = "dropped" if claim["published"] is None else f"published as {claim['published']}"
            print(f"  {sentence(', '.join(claim['upstreams']))}: {sentence(outcome)}")
    for note in answer.get("notes", ()):
        print(sentence(f"note: {note}"))
    for warning in answer["warnings"]:
        print(sentence(f"warning: {warning}"))


def duration(seconds: float) -> str:
    """Format as `5 s`, `3 min 0 s`, `2 h 5 min` or `4 d 1 h`."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
