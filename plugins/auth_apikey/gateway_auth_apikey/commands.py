"""`rad mcp proxy keys`: makes, lists and revokes the keys of the plugin `auth_apikey`."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateway_auth_apikey import key_file
from gateway_auth_apikey.plugin import NAME, Settings
from gateway_auth_apikey.records import Record, expiry, new
from gateway_core import CommandContext, CommandError, CommandGroup, ConfigOption, JsonOption

app = CommandGroup("Keys of agents: make, list and revoke them (plugin auth_apikey).")
_COLUMNS = ("name", "id", "groups", "profile", "created", "expires", "kept in")


def _expires(text: str | None) -> str | None:
    if text is not None:
        try:
            expiry(text, datetime.now(UTC))
        except ValueError as problem:
            raise typer.BadParameter(str(problem)) from None
    return text


@app.command()
def add(
    *,
    name: Annotated[str, typer.Argument(help="Whom the key proves; it becomes the subject of the principal.")],
    group: Annotated[
        list[str] | None, typer.Option("--group", metavar="GROUP", help="A group of the principal; repeatable.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="WHEN", callback=_expires, help="When it stops working: 12h, 90d, 4w or 2027-01-31."
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="PROFILE", help="The profile that the key is bound to: its claim `profile`."),
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Write no file; print the record as TOML for the configuration.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, once. Only a hash of it is kept.

    The key is all of stdout, so that a script can take it; remarks go to stderr. A second key with the same name proves
    the same principal: make the new key, use it, then revoke the old one.

    Example: rad mcp proxy keys add alice --group staff --expires 90d
    """
    context = CommandContext.of(NAME, Settings, config)
    if profile is not None and (known := context.profiles) and profile not in known:
        raise typer.BadParameter(f"{context.file} has no profile {profile!r}; its profiles are {', '.join(known)}")
    until = None if expires is None else expiry(expires, datetime.now(UTC))
    try:
        key, record = new(name, groups=tuple(dict.fromkeys(group or ())), expires=until, profile=profile)
    except ValueError as invalid:
        raise typer.BadParameter(_first_problem(invalid)) from None
    others = [found for found, _ in _all(context) if found.name == name]
    if not inline:
        _changing(key_file.add, context, record)
    if as_json:
        shown = _shown(record, "" if inline else str(context.settings.file))
        toml = {"toml": _toml(record)} if inline else {}
        context.put_json({"key": str(key), **shown, **toml, "enabled": context.enabled})
    else:
        context.put(str(key))
    context.say(
        f"This is the only time that the key of {name} is shown. An agent sends it as one of these headers:\n"
        f"  Authorization: Bearer KEY\n"
        f"  {context.settings.header}: KEY\n"
        "In the settings of most clients, next to the url of the gateway:\n"
        '  "headers": {"Authorization": "Bearer KEY"}'
    )
    if inline and not as_json:
        context.say(f"Add this to {context.file}, below the table of {NAME}:\n\n{_toml(record)}\n")
    elif not inline:
        context.say(f"Its record is in {context.settings.file}; a running gateway accepts it within seconds.")
    for other in others:
        context.say(f"{name} has another key; to revoke it: {context.command('keys', 'revoke', other.id)}")
    if not context.enabled:
        reload = context.command("reload")
        context.say(f"warning: no key is needed yet. {context.to_enable}\n\nIf the gateway runs already: {reload}")


@app.command("list")
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the keys: name, id, groups, times. Neither keys nor hashes are shown.

    Example: rad mcp proxy keys list
    """
    context = CommandContext.of(NAME, Settings, config)
    found = [(record, "settings" if where is None else where) for record, where in _all(context)]
    if as_json:
        context.put_json({"keys": [_shown(*one) for one in found], "enabled": context.enabled})
    elif not found:
        context.put(f"no keys; to make one: {context.command('keys', 'add', 'NAME')}")
    else:
        context.put_table(_COLUMNS, [_row(*one) for one in found], whole={"name", "id"})
    if not context.enabled and not as_json:
        context.say(f"warning: {context.to_enable}")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="NAME|ID", help="The name or the id of a key.")],
    every: Annotated[bool, typer.Option("--all", help="All keys of that name.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key: a running gateway refuses it within seconds.

    Example: rad mcp proxy keys revoke alice
    """
    context = CommandContext.of(NAME, Settings, config)
    known = _all(context)
    found = [one for one in known if one[0].id == key] or [one for one in known if one[0].name == key]
    if not found:
        raise CommandError(f"no key has the name or id {key!r}; to see all: {context.command('keys', 'list')}")
    if len(found) > 1 and not every:
        listed = ", ".join(record.id for record, _ in found)
        raise CommandError(f"{key} has {len(found)} keys; name one of their ids ({listed}), or add --all")
    inline = [record.id for record, where in found if where is None]
    if inline:
        raise CommandError(
            f"the key {inline[0]} stands in the settings of {NAME} in {context.file}; remove it there, "
            f"and apply the file: {context.command('reload')}"
        )
    ids = [record.id for record, _ in found]
    _changing(key_file.remove, context, ids)
    if as_json:
        context.put_json({"revoked": ids})
    else:
        for record, _ in found:
            context.put(f"revoked: {record.name}, {record.id}")


def _all(context: CommandContext[Settings]) -> list[tuple[Record, str | None]]:
    """All records, each with the file that it is in; None for one in the settings."""
    path = context.settings.file
    records = key_file.read(path).records
    return [*((record, None) for record in context.settings.keys), *((record, str(path)) for record in records)]


def _changing(change: Any, context: CommandContext[Settings], what: Any) -> None:
    try:
        change(context.settings.file, what)
    except key_file.KeyFileError as problem:
        raise CommandError(str(problem)) from None


def _first_problem(invalid: ValueError) -> str:
    error = invalid.errors(include_url=False, include_context=False)[0]  # type: ignore[attr-defined]
    return f"{error['loc'][0]}: {error['msg'].removeprefix('Value error, ')}"


def _shown(record: Record, where: str) -> dict[str, Any]:
    return {
        "name": record.name,
        "id": record.id,
        "groups": list(record.groups),
        "profile": record.profile,
        "created": _time(record.created),
        "expires": _time(record.expires),
        "expired": record.has_expired(datetime.now(UTC)),
        "kept_in": where or None,
    }


def _row(record: Record, where: str) -> list[str]:
    expires = _time(record.expires) or "never"
    if record.has_expired(datetime.now(UTC)):
        expires = f"expired {expires}"
    groups, created = ", ".join(record.groups) or "-", _time(record.created) or "-"
    return [record.name, record.id, groups, record.profile or "-", created, expires, where]


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _toml(record: Record) -> str:
    return "\n".join(["[[mcp.proxy.plugins.keys]]", *_assignments(record)])


def _assignments(record: Record) -> Iterator[str]:
    for key, value in json.loads(record.line()).items():
        # What JSON writes of texts and lists of them is TOML; a time of RFC 3339 may be a text.
        yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
