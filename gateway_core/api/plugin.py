"""Base classes for plugins: their settings, and an optional base of the plugin class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Generic, TypeVar, cast, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationInfo,
)
from pydantic_core import CoreSchema

from gateway_core.http1.tokens import is_token

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from gateway_core.api.identity import Principal
    from gateway_core.api.notes import Known, Note
    from gateway_core.api.page import Allowance, Page

FOLDER: Final = "folder"
"""Key of the validation context of settings: the folder of the configuration file."""


_EXACT: Final = frozenset({"bool", "float", "int"})
_INNER: Final = frozenset(
    {"choices", "definitions", "fields", "items_schema", "json_schema", "keys_schema", "lax_schema", "python_schema"}
    | {"schema", "steps", "strict_schema", "values_schema"}
)
"""The keys of pydantic's core schemas below which there are others."""


def _exact(schema: Any) -> Any:
    """A copy of a core schema, or of a collection of them, whose booleans and numbers are strict."""
    if isinstance(schema, list | tuple):
        return type(schema)(map(_exact, schema))
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if not isinstance(kind, str):
        return {key: _exact(part) for key, part in schema.items()}
    found = {key: _exact(part) if key in _INNER else part for key, part in schema.items()}
    return {**found, "strict": True} if kind in _EXACT else found


class PluginConfig(BaseModel):
    """Base of a plugin's settings: unknown keys are rejected, values are frozen, defaults are checked like values.

    A number is not taken for a boolean, nor a boolean or a text for a number. Texts from `${…}` are converted before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cast(CoreSchema, _exact(handler(source)))


def _not_empty(value: Any) -> Any:
    if value == "":
        raise ValueError("must not be empty")
    return value


def _absolute(path: Path, info: ValidationInfo) -> Path:
    # A "~" that cannot be expanded stays; using the path then fails.
    found = Path(os.path.expanduser(path))
    folder = None if info.context is None else info.context.get(FOLDER)
    return found if folder is None else folder / found


ConfigPath = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_absolute)]
"""Type of a setting that names a file or folder. A relative path starts at the folder of the configuration file, `~` is
the home directory. Without a configuration file, as in a test, a relative path stays relative."""


def _header_name(value: str) -> str:
    if not is_token(value):
        raise ValueError("is not the name of an HTTP header")
    return value


HeaderName = Annotated[str, AfterValidator(_header_name)]
"""Type of a setting that names an HTTP header."""

ConfigT = TypeVar("ConfigT", bound=PluginConfig)


class Plugin(Generic[ConfigT]):
    """An optional base for plugins that gives editors and type checkers the type of `self.config`.

    The gateway treats `class SmallCalls(Plugin[Settings])` like a plain class with `Config = Settings` and a
    constructor that stores its argument as `self.config`. Type checkers know its optional attributes (docs/hooks.md).
    """

    Config: ClassVar[type[PluginConfig]] = PluginConfig
    """The model of the plugin's settings in the TOML; taken from the type argument."""

    if TYPE_CHECKING:  # the types of what a plugin may have; the gateway looks at plain classes, too
        fails_closed: ClassVar[bool]
        after_call_reads_arguments: ClassVar[bool]
        needs_client_certificates: ClassVar[bool]
        methods: Collection[str]
        measures_hooks: bool
        measures_loop_lag: bool
        pages: Sequence[Page]
        call_headers: Sequence[str]
        credential_headers: Sequence[str]
        challenges: Sequence[str]
        remember: float
        well_known: Mapping[str, Mapping[str, Any]]

        @property
        def warnings(self) -> Sequence[str]: ...

        @property
        def known_groups(self) -> Collection[str]: ...

        def notes(self, known: Known) -> Iterable[Note]:
            return ()

        def allowances(self, principal: Principal) -> Iterable[Allowance]:
            return ()

        def use_clock(self, clock: Callable[[], float]) -> None: ...

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    def __init_subclass__(cls, **options: Any) -> None:
        """Raises `TypeError` for a type argument that is not a settings class, or that differs from `Config`."""
        super().__init_subclass__(**options)
        for base in vars(cls).get("__orig_bases__", ()):
            origin = get_origin(base)
            if not (isinstance(origin, type) and issubclass(origin, Plugin)):
                continue
            for argument in get_args(base):
                cls._take(argument)

    @classmethod
    def _take(cls, argument: Any) -> None:
        own = vars(cls).get("Config")
        if isinstance(argument, TypeVar) or own is argument:
            return
        if isinstance(argument, type) and issubclass(argument, PluginConfig) and own is None:
            cls.Config = argument
        elif own is None:
            raise TypeError(f"{cls.__name__}: write the class of its settings into Plugin[…], not {argument!r}")
        elif isinstance(argument, type):
            raise TypeError(f"{cls.__name__}: Plugin[{argument.__name__}] and its Config name two classes of settings")
