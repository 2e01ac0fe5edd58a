"""`rad mcp proxy reload` and `diff`: the running gateway reads its file again, or says what that would change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway_core.cli.client import of_file
from gateway_core.cli.hints import command
from gateway_core.cli.report import Failed, describe, put, put_json, say_error
from gateway_core.cli.running import instance
from gateway_core.errors import ConfigError
from gateway_core.log.escaping import escape
from gateway_core.log.wording import count


def reload(config: Path | None, *, as_json: bool) -> None:
    """Apply the file. Raises `NotRunning`, `NotAnswering`, and `Failed`, also for a file with problems."""
    found = _asked(config, "POST", "reload", as_json=as_json)
    if as_json:
        put_json({"ok": True, **found})
        return
    live, restart = _sorted(found)
    if not found["changes"]:
        put("nothing changed")
    elif live:
        put(f"reloaded: {count(len(live), 'change')}, generation {found['generation']}")
    _list(live, restart)


def diff(config: Path | None, *, as_json: bool) -> None:
    """Print what `reload` would change. Raises as `reload`."""
    found = _asked(config, "GET", "diff", as_json=as_json)
    if as_json:
        put_json({"ok": True, **found})
        return
    live, restart = _sorted(found)
    if not found["changes"]:
        put("the running gateway has the configuration of the file")
    elif live:
        put(f"`{command('reload')}` would apply {count(len(live), 'change')}:")
    _list(live, restart)


def _asked(config: Path | None, verb: str, page: str, *, as_json: bool) -> dict[str, Any]:
    running = instance(config)
    try:
        return of_file(running, verb, page)
    except ConfigError as error:
        if as_json:
            put_json({"ok": False, "problems": error.problems})
        else:
            say_error(describe(error)[0] + "\nthe running gateway keeps its configuration")
        raise Failed("") from None


def _sorted(found: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The changes that a reload applies, and those that need a restart."""
    changes = found["changes"]
    return [one for one in changes if not one["restart"]], [one for one in changes if one["restart"]]


def _list(live: list[dict[str, Any]], restart: list[dict[str, Any]]) -> None:
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
