"""`rad mcp proxy backtest`: what a configuration would decide about recorded calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway_audit_log.backtest import Compared, Sum, compared
from gateway_audit_log.commands import NAME, filtered, readable
from gateway_audit_log.reading import Filter, entries_of, files_of
from gateway_audit_log.settings import Settings
from gateway_core import CommandContext, CommandError, CommandGroup, ConfigOption, JsonOption, Rehearsal

MAX_SHOWN: Final = 10_000
"""Differences that are printed; all of them are counted."""
_COLUMNS: Final = ("time", "principal", "call", "was", "would be")

app = CommandGroup("What a configuration would decide about recorded calls.")


@app.command("backtest")
@filtered("principal", "tool", "since", "until")
def backtest(
    audit: Annotated[
        str | None,
        typer.Option("--audit", metavar="FILE", help="The record. Without it: that of audit_log in the configuration."),
    ] = None,
    *,
    chosen: Filter,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay recorded calls through the plugins of a configuration, and print what they would decide differently.

    Nothing is sent to an upstream. The exit code is 1 if any call would be decided differently.

    Example: rad mcp proxy backtest --config new.toml --audit .radium/audit.jsonl --since 7d
    """
    context = CommandContext.of(NAME, Settings, config)
    path = context.settings.file if audit is None else Path(audit)
    files = files_of(path)
    if not files:
        raise CommandError(f"{path}: there is no such record of calls")
    rehearsal, total = Rehearsal(config), Sum()
    with readable():
        entries = filter(chosen.admits, entries_of(files))
        found = asyncio.run(_different(entries, rehearsal, total))
    if as_json:
        context.put_json(_json(found, total))
    else:
        _put(context, found, total)
    if total.different:
        raise typer.Exit(1)


async def _different(entries: Iterable[Mapping[str, Any]], rehearsal: Rehearsal, into: Sum) -> list[Compared]:
    found = list[Compared]()
    async for one in compared(entries, rehearsal, into):
        if one.differs and len(found) < MAX_SHOWN:
            found.append(one)
    return found


def _put(context: CommandContext[Settings], found: list[Compared], total: Sum) -> None:
    if found:
        context.put_table(_COLUMNS, map(_row, found), whole={"time", "was", "would be"})
        context.put()
    if total.different > len(found):
        context.put(f"and {total.different - len(found)} more calls")
    context.put_table(
        ("was", "would be", "calls"),
        [(was, now, str(count)) for (was, now), count in sorted(total.pairs.items())],
        whole={"was", "would be", "calls"},
    )
    context.put(f"{total.different} of {total.calls} calls would be decided differently")
    for reason, count in total.reasons.most_common():
        context.put(f"{count} cannot be decided: {reason}")
    for what, count in total.skipped.most_common():
        context.say(f"note: {count} {what} were not judged")
    if total.claims_left_out:
        context.say(
            f"note: {total.claims_left_out} calls are of principals with claims that were not recorded; "
            "rules that read these claims may decide otherwise"
        )


def _json(found: list[Compared], total: Sum) -> dict[str, Any]:
    return {
        "calls": total.calls,
        "different": total.different,
        "undecided": total.undecided,
        "decisions": [{"was": was, "now": now, "calls": count} for (was, now), count in sorted(total.pairs.items())],
        "undecided_because": dict(total.reasons),
        "skipped": dict(total.skipped),
        "claims_left_out": total.claims_left_out,
        "differences": [
            {
                "seq": one.entry.get("seq"),
                "time": one.entry["time"],
                "principal": one.entry["principal"]["id"],
                "method": one.entry["method"],
                "name": one.entry["name"],
                "was": {"decision": one.was, "plugin": one.entry.get("plugin"), "rule": one.entry.get("rule")},
                "now": {
                    "decision": one.now.decision,
                    "plugin": one.now.plugin,
                    "rule": one.now.rule,
                    "reason": one.now.reason,
                },
            }
            for one in found
        ],
    }


def _row(one: Compared) -> tuple[str, ...]:
    entry, now = one.entry, one.now
    return (
        str(entry["time"]),
        str(entry["principal"]["id"]),
        f"{entry['method']} {entry['name']}".rstrip(),
        _decided(one.was, entry.get("plugin"), entry.get("rule")),
        _decided(now.decision, now.plugin, now.rule),
    )


def _decided(decision: str, plugin: object, rule: object) -> str:
    by = ": ".join(str(part) for part in (plugin, rule) if part)
    return f"{decision} ({by})" if by else decision
