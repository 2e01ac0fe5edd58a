"""`rad mcp proxy audit`: verify, show and export the record of calls."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway_audit_log.chaining import UnusableKey, keys_of
from gateway_audit_log.exporting import write_csv
from gateway_audit_log.reading import Filter, end_of, entries_of, files_of, followed, moment_of
from gateway_audit_log.settings import Settings
from gateway_audit_log.verifying import Report, verify
from gateway_core import CommandContext, CommandError, CommandGroup, ConfigOption, Globs, JsonOption

NAME: Final = "audit_log"
MAX_SHOWN: Final = 20
"""Findings that are printed; `--json` has more."""
_COLUMNS: Final = ("time", "principal", "call", "upstream", "decision", "outcome", "ms")
_encode: Final = msgspec.json.Encoder().encode

app = CommandGroup("The record of calls of audit_log: verify, show and export it.")

FileArgument = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="A file of the log. Without it: that of the configuration, with older files."),
]
PrincipalOption = Annotated[
    str, typer.Option("--principal", metavar="GLOB", help="Only calls of these principals: an id or a subject.")
]
ToolOption = Annotated[str, typer.Option("--tool", metavar="GLOB", help="Only calls of these names.")]
UpstreamOption = Annotated[str, typer.Option("--upstream", metavar="GLOB", help="Only calls that went there.")]
OutcomeOption = Annotated[str, typer.Option("--outcome", metavar="GLOB", help="Only these outcomes: ok, refused, …")]
DecisionOption = Annotated[
    str, typer.Option("--decision", metavar="GLOB", help="Only these decisions: allow, refuse, answer, ask, fail.")
]
SinceOption = Annotated[
    str, typer.Option("--since", metavar="TIME", help="From then on: an ISO time in UTC, or 90s, 15m, 2h, 7d ago.")
]
UntilOption = Annotated[str, typer.Option("--until", metavar="TIME", help="Before then.")]


def filter_of(
    *,
    principal: PrincipalOption = "",
    tool: ToolOption = "",
    upstream: UpstreamOption = "",
    outcome: OutcomeOption = "",
    decision: DecisionOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
) -> Filter:
    """The filter of the options. Raises `typer.BadParameter` for a time that is none."""
    moments = []
    for option, given in (("--since", since), ("--until", until)):
        try:
            moments.append(moment_of(given) if given else "")
        except (ValueError, OverflowError, OSError):
            raise typer.BadParameter(f"{option} is no time; examples: 2026-11-30T12:00, 90s, 15m, 2h, 7d") from None
    asked = (principal, tool, upstream, outcome, decision)
    who, what, where, ended, by = (Globs([glob] if glob else ()) for glob in asked)
    return Filter(who, what, where, ended, by, *moments)


def filtered(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options of `filter_of` in place of its parameter `chosen`, which gets the filter.

    `names`: those of the options; all of them without any.
    """
    known = inspect.signature(filter_of, eval_str=True).parameters
    options = {name: known[name] for name in names or known}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            asked = {name: given.pop(name) for name in options}
            command(chosen=filter_of(**asked), **given)

        own = inspect.signature(command, eval_str=True).parameters
        both = [*options.values(), *(one for name, one in own.items() if name != "chosen")]
        parameters = sorted(both, key=lambda one: one.kind)  # arguments come before options
        vars(run)["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        del run.__wrapped__
        return run

    return decorate


@app.command("verify")
def verify_command(
    file: FileArgument = None,
    *,
    expect: Annotated[
        str, typer.Option("--expect", metavar="HASH", help="A hash noted earlier that one of the entries must have.")
    ] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify that no entry was changed, removed, added or moved.

    The end of the log can only be verified with --expect, and without key_file only if the hash was kept elsewhere.
    """
    context = CommandContext.of(NAME, Settings, config)
    try:
        keys = keys_of(context.settings.key_file, b"")
    except UnusableKey as problem:
        raise CommandError(str(problem)) from None
    files = _files(context, file)
    with readable():
        report = verify(files, keys, expect)
    if as_json:
        context.put_json(
            {
                "files": [str(path) for path in files],
                "intact": not report.count,
                **msgspec.to_builtins({name: getattr(report, name) for name in Report.__dataclass_fields__}),
            }
        )
    else:
        _put_report(context, report, len(files))
    if report.count:
        raise typer.Exit(1)


def _put_report(context: CommandContext[Settings], report: Report, files: int) -> None:
    for text in report.notes[:MAX_SHOWN]:
        context.put(f"note: {text}")
    for text in report.findings[:MAX_SHOWN]:
        context.put(text)
    hidden = report.count - len(report.findings[:MAX_SHOWN])
    if hidden:
        context.put(f"and {hidden} more findings")
    which = f"entries {report.first} to {report.last}" if report.entries else "no entries"
    context.put(f"{which} in {files} {'file' if files == 1 else 'files'}; the last hash is {report.hash}")
    context.put("the log was changed" if report.count else "the log is intact")
    if context.settings.key_file is None:
        context.say("note: without key_file, who can write the file can also make a new chain; compare the last hash")


@app.command("show")
@filtered()
def show(
    file: FileArgument = None,
    *,
    chosen: Filter,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, help="How many of the last entries to show.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with entries as they are added.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the last calls and authentications, the oldest of them first.

    Examples: rad mcp proxy audit show --decision refuse --since 2h; rad mcp proxy audit show --tool 'delete_*' -f
    """
    context = CommandContext.of(NAME, Settings, config)
    files = _files(context, file)
    with readable():
        end = end_of(files[-1])
        newest, found = _last(entries_of(files), chosen, last)
        if as_json:
            for entry in found:
                context.put(_encode(entry).decode())
        else:
            context.put_table(_COLUMNS, [_row(entry) for entry in found], whole={"time", "decision", "outcome"})
            if not found and not follow:
                context.say("no entries match")
        if follow:
            with contextlib.suppress(KeyboardInterrupt):
                for entry in filter(chosen.admits, followed(files[-1], end, newest)):
                    context.put(_encode(entry).decode() if as_json else "  ".join(_row(entry)))
                    sys.stdout.flush()


@app.command("export")
@filtered()
def export(
    file: FileArgument = None,
    *,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="csv or jsonl.")] = "jsonl",
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="A new file. Without it: stdout.")
    ] = None,
    chosen: Filter,
    config: ConfigOption = None,
) -> None:
    """Write entries as JSON lines, or as CSV for spreadsheets.

    Example: rad mcp proxy audit export --format csv --since 7d --output week.csv
    """
    if form not in {"csv", "jsonl"}:
        raise typer.BadParameter("--format is csv or jsonl")
    context = CommandContext.of(NAME, Settings, config)
    files = _files(context, file)
    with readable(), contextlib.ExitStack() as stack:
        to = sys.stdout
        if output is not None:
            to = stack.enter_context(os.fdopen(_new(Path(output)), "w", encoding="utf-8", newline=""))
        entries = filter(chosen.admits, entries_of(files))
        if form == "csv":
            count = write_csv(entries, to)
        else:
            count = 0
            for entry in entries:
                to.write(_encode(entry).decode() + "\n")
                count += 1
    context.say(f"{count} entries were exported")


def _new(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise CommandError(f"{path}: exists already; name a new file") from None


def _files(context: CommandContext[Settings], file: str | None) -> list[Path]:
    if file is not None:
        return [Path(file)]
    found = files_of(context.settings.file)
    if not found:
        advice = f"\n  {context.to_enable}" if context.to_enable else ""
        raise CommandError(f"{context.settings.file}: there is no such file yet{advice}")
    return found


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Within this context, a file that cannot be read ends the command with a message."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"{error.filename or 'the log'}: cannot be read: {error.strerror}") from None


def _last(entries: Iterable[dict[str, Any]], chosen: Filter, number: int) -> tuple[int, list[dict[str, Any]]]:
    """The number of the last entry, and the last entries that the filter admits."""
    newest, found = 0, deque[dict[str, Any]](maxlen=number)
    for entry in entries:
        newest = entry["seq"]
        if chosen.admits(entry):
            found.append(entry)
    return newest, list(found)


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    given = entry.get("principal")
    principal: Mapping[str, Any] = given if isinstance(given, dict) else {}
    who = str(principal.get("id") or entry.get("address") or "")
    if principal.get("verified") is False:
        who += " (not verified)"
    if entry["type"] == "call":
        call = f"{entry.get('method', '')} {entry.get('name', '')}".rstrip()
    else:
        call = str(entry["type"])
    rule = entry.get("rule") or entry.get("reason") or ""
    by = ": ".join(str(one) for one in (entry.get("plugin"), rule) if one)
    decision = str(entry.get("decision") or "")
    return (
        str(entry.get("time", "")),
        who,
        call,
        str(entry.get("upstream") or ""),
        f"{decision} ({by})" if by else decision,
        str(entry.get("outcome") or ""),
        str(entry.get("ms", "")),
    )
