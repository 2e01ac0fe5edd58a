"""Options that parse without pydantic, which is slow to load.

Typer loads pydantic to convert every option that is not a flag, even an absent one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from gateway_core.cli import hints
from gateway_core.cli.state.folder import VARIABLE

FILES: Final = frozenset({"config", "path", "_state", "client_cert", "client_key"})
"""Names of parameters that are file paths."""
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Configuration file. Without it: the nearest .radium/mcp-proxy.toml, from here upwards.",
    ),
]
"""The option `--config` of a parameter `config`, which has the default None."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]
"""The option `--json`; its parameter has the default false."""


def _state_dir(folder: Path | None) -> Path | None:
    if folder is not None:
        os.environ[VARIABLE] = os.path.abspath(folder)  # a detached gateway inherits it
    return folder


StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        callback=_state_dir,
        help=f"Folder of the pid file, names, lists and the log, in place of state_dir ({VARIABLE}).",
    ),
]
"""The option `--state-dir` of a parameter `_state`, which has the default None."""


class Option(TyperOption):
    """An option that typer converts only if it is present and is not a file path."""

    @classmethod
    def of(cls, made: TyperOption) -> Option:
        """A copy of typer's option as an instance of this class."""
        option = cls.__new__(cls)
        vars(option).update(vars(made))
        return option

    def process_value(self, ctx: Any, value: Any) -> Any:
        if value is None and not self.required and not self.multiple:
            return None if self.callback is None else self.callback(ctx, self, None)
        if self.name in FILES and isinstance(value, str):
            return Path(value) if self.callback is None else self.callback(ctx, self, Path(value))
        return super().process_value(ctx, value)


class _WithOptions:
    """Mixin of commands and groups that makes all of their options an `Option`."""

    params: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [Option.of(param) if isinstance(param, TyperOption) else param for param in self.params]
        self._help: Option | None = None

    def get_help_option(self, ctx: Any) -> Any:
        made = super().get_help_option(ctx)  # type: ignore[misc]  # from the other base class
        if self._help is None and isinstance(made, TyperOption):
            self._help = Option.of(made)
        return self._help


class Command(_WithOptions, TyperCommand):
    """A command whose options are `Option`s, and whose messages repeat where its configuration is."""

    def invoke(self, ctx: Any) -> Any:
        with hints.repeating(ctx.params):
            return super().invoke(ctx)


class Group(_WithOptions, TyperGroup):
    """A group of commands whose own options are `Option`s."""
