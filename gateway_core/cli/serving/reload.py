"""`rad mcp proxy reload` and `diff`: the running gateway reads its file again, or says what that would change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway_core.cli.client import RELOAD_TIMEOUT, send
from gateway_core.cli.hints import command
from gateway_core.cli.report import Failed, describe, put, put_json, say_error
from gateway_core.cli.running import instance
from gateway_core.errors import ConfigError
from gateway_core.log.escaping import escape
from gateway_core.log.wording import count


def reload(config: Path | None, *, as_json: bool) -> None:
    """Apply the file. Raises `NotRunning`, `NotAnswering`, and `Failed`, also for a file with problems."""
    found = _asked(config, "POST", "reload", as_json=as_json)
    _show(found, "reloaded: {changes}, generation {generation}", "nothing changed", as_json=as_json)


def diff(config: Path | None, *, as_json: bool) -> None:
    """Print what `reload` would change. Raises as `reload`."""
    found = _asked(config, "GET", "diff", as_json=as_json)
    same = "the running gateway has the configuration of the file"
    _show(found, f"`{command('reload')}` would apply {{changes}}:", same, as_json=as_json)


def applied(config: Path | None, verb: str, page: str, value: Any = None, *, as_json: bool) -> None:
    """Let the running gateway change its file, and print what changed. Raises as `reload`."""
    found = _asked(config, verb, page, value, as_json=as_json)
    _show(found, "applied: {changes}, generation {generation}", "nothing changed", as_json=as_json)


def _asked(config: Path | None, verb: str, page: str, value: Any = None, *, as_json: bool) -> dict[str, Any]:
    running = instance(config)
    try:
        return send(running, verb, page, value, RELOAD_TIMEOUT)
    except ConfigError as error:
        if as_json:
            put_json({"ok": False, "problems": error.problems})
        else:
            say_error(describe(error)[0] + "\nthe running gateway keeps its configuration")
        raise Failed("") from None


def _show(found: dict[str, Any], applied: str, same: str, *, as_json: bool) -> None:
    """Print the changes, below `applied` or in place of them `same`; last, the changes that need a restart."""
    if as_json:
        put_json({"ok": True, **found})
        return
    live = [one for one in found["changes"] if not one["restart"]]
    restart = [one for one in found["changes"] if one["restart"]]
    if not found["changes"]:
        put(same)
    elif live:
        put(applied.replace("{changes}", count(len(live), "change")).replace("{generation}", str(found["generation"])))
    for one in live:
        put(f"  {_line(one)}")
    if restart:
        put(f"{count(len(restart), 'change')} {'needs' if len(restart) == 1 else 'need'} a restart:")
    for one in restart:
        put(f"  {_line(one)}: {escape(one['restart'])}")


def _line(one: dict[str, Any]) -> str:
    subject = one["name"] if one["kind"] == "setting" else f"{one['kind']} {one['name']}"
    details = f" ({'; '.join(one['details'])})" if one["details"] else ""
    return escape(f"{subject}: {one['how']}{details}")
