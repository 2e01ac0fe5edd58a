"""What all tables of the configuration file have in common."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every table: no unknown keys, no conversions between types, no values in error texts."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True, validate_default=False
    )

    not_in_file: ClassVar[frozenset[str]] = frozenset()
    """Fields that `load` fills in and that are no keys of the file."""

    @classmethod
    def file_keys(cls) -> list[str]:
        """The keys that the table may have in the file."""
        return [key for key in cls.model_fields if key not in cls.not_in_file]
