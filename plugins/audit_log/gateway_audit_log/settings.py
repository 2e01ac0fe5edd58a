"""The settings of the plugin, as the TOML has them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from gateway_core import ConfigPath, Globs, PluginConfig

Sync = Literal["none", "interval", "each"]


class Settings(PluginConfig):
    """Settings of `audit_log`."""

    file: ConfigPath = Field(default=Path("audit.jsonl"), description="the file of the entries")
    key_file: ConfigPath | None = Field(
        default=None,
        description="a file with a secret of at least 32 bytes that makes the chain of hashes unforgeable, and digests "
        "comparable between runs",
    )
    on_failure: Literal["continue", "refuse"] = Field(
        default="continue", description="what happens to calls while entries cannot be written: continue or refuse"
    )
    sync: Sync = Field(
        default="interval",
        description="when entries are forced to the disk: none (the operating system decides), interval, or each "
        "(every agent waits for the entry of its call)",
    )
    sync_interval: float = Field(default=1.0, ge=0.1, le=3600, description="seconds between two of these in `interval`")
    max_bytes: int = Field(default=100 * 1024 * 1024, ge=64 * 1024, description="bytes after which a new file is begun")
    max_age: float | None = Field(
        default=None, ge=60, description="seconds after which a new file is begun; without it, only `max_bytes` counts"
    )
    kept_files: int | None = Field(
        default=None, ge=1, description="older files to keep; without it, all of them are kept"
    )
    payloads: Globs = Field(
        default=Globs(),
        description="glob patterns of tools whose arguments and results are kept: a name, or upstream:tool",
    )
    max_payload: int = Field(
        default=16 * 1024, ge=256, le=1024 * 1024, description="bytes of arguments, or of a result, that are kept"
    )
    claims: Globs = Field(default=Globs(["profile"]), description="globs of the claims of principals to record")

    @model_validator(mode="after")
    def _every_key_is_read(self) -> Self:
        given = self.model_fields_set
        if "sync_interval" in given and self.sync != "interval":
            raise ValueError('sync_interval has no effect without sync = "interval"; remove one of the two')
        if "max_payload" in given and not self.payloads:
            raise ValueError("max_payload has no effect without payloads; add these, or remove max_payload")
        return self
