"""`rad mcp proxy config get`, `set` and `unset`: single keys of the configuration file.

A running gateway changes its file itself, and puts the change in force. Without one, the file is changed here.
"""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

from gateway_core.cli.inspecting.problems import with_plugins
from gateway_core.cli.locate import locate
from gateway_core.cli.report import Failed, put, put_json, say
from gateway_core.cli.running import instance_of
from gateway_core.cli.serving.reload import applied
from gateway_core.config import loads, read_file, text_of
from gateway_core.config.report import toml_value
from gateway_core.errors import ConfigError, EditRefused, OutdatedEdit
from gateway_core.generations.draft import Draft, version_of
from gateway_core.generations.editing.concealed import FileText
from gateway_core.generations.editing.keyed import KeyChange, changed, value_of
from gateway_core.hooks import loader


def get(config: Path | None, key: str, *, as_json: bool) -> None:
    """Print the value of a key without secrets. Raises `ConfigError`, and `Failed` for a key that the file lacks."""
    path = locate(config)
    shown = FileText(text_of(path, read_file(path)), path).hidden
    found = value_of(shown, key, str(path))
    if found is None:
        raise Failed(f"{path} does not have {key}; docs/configuration.md lists the defaults")
    if as_json:
        put_json({"key": key, "value": found})
    else:
        put(toml_value(found))


def change(config: Path | None, key: str, value: str | None, *, as_json: bool) -> None:
    """Set a key to a value in TOML, or to plain text; None removes the key.

    Raises `ConfigError` and `PluginError` for what the file cannot have, `Failed` for what is refused.
    """
    path = locate(config)
    wanted = None if value is None else parsed(value)
    if instance_of(path) is not None:
        body = {"changes": [{"key": key, "value": wanted}]}
        applied(config, "PATCH", "config", body, as_json=as_json)
        return
    content = read_file(path)
    before = FileText(text_of(path, content), path)
    after = before.restored(before.with_text(changed(before.text, [KeyChange(key, wanted)], str(path))))
    try:
        proxy = loads(after.text, path).proxy
        loader.load_plugins(proxy, str(path))
    except ConfigError as error:
        raise ConfigError(with_plugins(error, path, after.text)) from None
    try:
        draft = Draft(path, after.text.encode(), version_of(content), lambda _: None)
        asyncio.run(draft.save())
    except (EditRefused, OutdatedEdit) as error:
        raise Failed(str(error)) from None
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}") from None
    if as_json:
        put_json({"ok": True, "generation": None, "changes": []})
    else:
        say(f"written to {path}; no gateway runs")


def parsed(value: str) -> Any:
    """A value of the command line: TOML if it is that, else plain text."""
    try:
        found = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return value
    return found["value"] if len(found) == 1 else value
