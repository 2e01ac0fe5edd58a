"""The base class of every table of the file, and the tables that depend on no other."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from gateway_core.config.fields import Host


class Section(BaseModel):
    """Base of every table: no unknown keys, no conversions between types, no values in error texts."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True, validate_default=False
    )

    not_in_file: ClassVar[frozenset[str]] = frozenset()
    """Fields that `load` sets and that are not keys of the file."""

    @classmethod
    def file_keys(cls) -> list[str]:
        """The keys that the table may have in the file."""
        return [key for key in cls.model_fields if key not in cls.not_in_file]


class ControlConfig(Section):
    """The control plane: status and tools for operators, on a listener that agents do not use."""

    host: Host = Field(
        default="127.0.0.1",
        description="Address to listen on. The admin token crosses it unencrypted: keep it on loopback.",
    )
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="TCP port to listen on; 0 takes a free one, which the commands find through the pid file.",
    )


class NamesConfig(Section):
    """Which names of tools and prompts agents can take. Names that do not fit are changed before they are published."""

    max_length: int = Field(
        default=128,
        ge=32,
        le=128,
        description="Longest name in characters; some clients take 64. A longer one is cut and ends in a digest.",
    )
    dots: bool = Field(default=True, description="Whether names may contain a dot; `false` puts `_` in its place.")
