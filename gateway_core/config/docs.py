"""Generates `docs/configuration.md` from the models: `python -m gateway_core.config.docs [FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gateway_core.config.expand import DEFAULT_PLUGINS, SECURITY_KEYS
from gateway_core.config.loader import FILE_LIMIT, RELATIVE_PATH, loads
from gateway_core.config.models import FileTable, McpTable
from gateway_core.config.report import section_in, sections, toml_value
from gateway_core.config.sections import Section
from gateway_core.config.wording import bounds_of
from gateway_core.errors import ConfigError
from gateway_core.files import TRUST_VARIABLE

OUTPUT: Final = Path("docs", "configuration.md")
COMMAND: Final = "python -m gateway_core.config.docs"

BUNDLED_PLUGINS: Final = (
    "audit_log",
    "auth_apikey",
    "auth_jwt",
    "auth_mtls",
    "routing_priority",
    "routing_roundrobin",
    "conflict_autoprefix",
    "conflict_priority",
    "conflict_reject",
    "observe_metrics",
    "observe_traces",
    "security_approval",
    "security_policy",
    "security_ratelimit",
    "security_redact",
)

COMPLETE: Final = Path(__file__).with_name("complete.toml").read_text(encoding="utf-8")
"""Every key once, in a file that loads."""

_SCALARS: Final[dict[Any, str]] = {
    bool: "boolean",
    int: "whole number",
    float: "number",
    str: "text",
    SecretStr: "text",
    Any: "any value",
}

_MISTAKES: Final = """\
[mcp.proxy]
enable = true
prot = 3000

[[mcp.proxy.upstreams]]
name = "github"
transport = "http"
priority = "high"
"""

_INTRO = f"""\
# Configuration

<!-- Generated from the models in gateway_core/config/. Do not edit; run `{COMMAND}`. -->

The gateway reads one TOML file, `.radium/mcp-proxy.toml`. It is looked up in the working directory and then in each
folder above it; `--config PATH` names another one. `rad mcp proxy init` writes a commented file, and
`rad mcp proxy check` checks a file without starting anything.

- Times are in seconds (`30` or `2.5`), sizes in bytes.
- Relative paths (`cwd`, `state_dir`, `${{file:PATH}}`, the files of `tls`) start at the folder of the configuration
  file. `log.file` starts at the [state folder](operations.md#files), which is the same unless you change it.
- The file may hold up to {FILE_LIMIT // 1024} KiB of UTF-8. Because it names commands that the gateway runs, a file
  that its group or all users may write is refused, and so is another user's file (unless that user is root).
  `{TRUST_VARIABLE}=1` in the environment accepts both, for [containers](containers.md).

## Environment variables and files

| in any text | becomes |
|---|---|
| `${{NAME}}` | the environment variable `NAME`; it is an error when it is not set |
| `${{NAME:-default}}` | the environment variable `NAME`, or the text `default` when it is not set or empty |
| `${{file:PATH}}` | the content of a file of at most 64 KiB, without one newline at its end |
| `$${{` | the characters `${{` |

Keep secrets out of the file with these. Error messages never show their values.

A number or a boolean can come from the environment, too: `port = "${{PORT:-3000}}"`. The text must be one placeholder
and nothing else. Booleans are `true`, `yes`, `on`, `1` and `false`, `no`, `off`, `0`.

By default, a missing variable or file is an error. With `on_missing = "skip"`, in `[mcp.proxy]` or in one upstream, it
only leaves out the upstream that names it. The upstream is listed as `misconfigured`, its names are kept for it, and
all other upstreams work. An upstream with `enabled = false` needs no variables and is listed as `disabled`.

## Errors

Every problem of the file is reported at once, and nothing is started:

```text
@ERRORS@
```

Unknown keys are errors. Indexes count from 0, in the order of the file. Secrets are never repeated: not the values of
`env`, `headers`, `args` and `auth`, nor of keys that look like secrets.

## Keys
"""

_NOTES: Final = {
    "[mcp.proxy.control]": "`rad mcp proxy status` and `tools` ask it, and monitoring may; "
    "[Operations](operations.md#endpoints) has the addresses. With `start --stdio` the port is always a free one.",
    "[mcp.proxy.security]": "In a file with its own `[[mcp.proxy.plugins]]` each key given here fills in the setting "
    "of its plugin; a key whose plugin is not listed, or whose entry has the setting already, is an error.\n\n"
    + "\n".join(f"- `{key}` is `{setting}` of `{plugin}`" for key, (plugin, setting) in SECURITY_KEYS.items()),
    "[[mcp.proxy.upstreams]]": "One table for each MCP server. `command`, `args`, `env` and `cwd` are for `stdio`; "
    "`url`, `headers`, `forward`, `auth`, `proxy` and `tls` for `http` and `sse`. A name must not contain the "
    "`separator`.",
    "[mcp.proxy.upstreams.auth]": "With `client_credentials`, the client is registered at the authorization server "
    "beforehand, and needs `client_id` and one proof: `client_secret`, `private_key`, or "
    '`token_endpoint_auth_method = "none"`. With `authorization_code`, nothing is required; '
    "[Logins](logins.md) shows the way. [Operations](operations.md#oauth) tells what is asked of whom.",
    "[[mcp.proxy.plugins]]": "One table for each, in the order in which they run.\n\n"
    "A file without this list gets " + ", ".join(f"`{name}`" for name in DEFAULT_PLUGINS) + "; `plugins = []` in "
    "`[mcp.proxy]` means none at all. Settings of the bundled plugins: "
    + ", ".join(f"[{name}](../plugins/{name}/README.md)" for name in BUNDLED_PLUGINS)
    + ".",
}


def render() -> str:
    """The whole page, in Markdown."""
    parts = [_INTRO.replace("@ERRORS@", _errors())]
    for header, model in sections(FileTable):
        if model is not McpTable:
            parts.append(_section(header, model))
    parts.append(f"## A complete example\n\nEvery key once.\n\n```toml\n{COMPLETE}```\n")
    return "\n".join(parts)


def _errors() -> str:
    """The loader's messages for a file with mistakes."""
    try:
        loads(_MISTAKES, RELATIVE_PATH, {})
    except ConfigError as error:
        return str(error)
    raise AssertionError("the file with mistakes has none")


def _section(header: str, model: type[Section]) -> str:
    lines = [
        f"### `{header}`",
        "",
        *_paragraphs(header, model),
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for key in model.file_keys():
        field = model.model_fields[key]
        if section_in(field.annotation) is None:
            default = "required" if field.is_required() else _default(field)
            lines.append(f"| `{key}` | {type_words(field)} | {default} | {_cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def _paragraphs(header: str, model: type[Section]) -> list[str]:
    texts = [(model.__doc__ or "").strip(), _NOTES.get(header, "")]
    return [line for text in texts if text for line in (text, "")]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    return "none" if value is None else f"`{_cell(toml_value(value))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def type_words(field: FieldInfo) -> str:
    """A field's type in words, with its bounds."""
    words = _words(field.annotation)
    return f"{words}, {bounds}" if (bounds := bounds_of(field)) else words


def _words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f'`"{choice}"`' for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_words(inner) for inner in arguments if inner is not NoneType)
    if origin in (Annotated, tuple):
        return _words(arguments[0]) if origin is Annotated else f"list of {_words(arguments[0])}"
    if origin is dict:
        choice = get_origin(arguments[1]) is Literal
        return "a table of tool names with one of these each" if choice else f"table of {_words(arguments[1])}"
    return _SCALARS[annotation]


def main(arguments: list[str]) -> None:
    """Write the page to the file that the first argument names, or to `docs/configuration.md`."""
    output = Path(arguments[0]) if arguments else OUTPUT
    output.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
