"""Options that are fast to read: typer loads pydantic to convert any that is not a flag, even one that is absent.

Pydantic takes longer to load than all the rest of `status` takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup, TyperOption

FILES: Final = frozenset({"config", "path"})
"""Parameters that name files."""


class Option(TyperOption):
    """An option that is converted only if it is given, and by typer only if that takes more than `Path`."""

    @classmethod
    def of(cls, made: TyperOption) -> Option:
        """The option that typer has made, as one of this class."""
        option = cls.__new__(cls)
        vars(option).update(vars(made))
        return option

    def process_value(self, ctx: Any, value: Any) -> Any:
        if value is None and not self.required and not self.multiple:
            return None if self.callback is None else self.callback(ctx, self, None)
        if self.name in FILES and isinstance(value, str):
            return Path(value)
        return super().process_value(ctx, value)


class _WithOptions:
    """The part that commands and groups share: all of their options are of `Option`."""

    params: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [Option.of(param) if isinstance(param, TyperOption) else param for param in self.params]
        self._help: Option | None = None

    def get_help_option(self, ctx: Any) -> Any:
        made = super().get_help_option(ctx)  # type: ignore[misc]  # of the class that this one is mixed into
        if self._help is None and isinstance(made, TyperOption):
            self._help = Option.of(made)
        return self._help


class Command(_WithOptions, TyperCommand):
    """A command whose options are of `Option`."""


class Group(_WithOptions, TyperGroup):
    """A group of commands whose own options are of `Option`."""
