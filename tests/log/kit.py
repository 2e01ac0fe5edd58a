"""Settings and a target for the tests of the log."""

import threading
from dataclasses import dataclass

from gateway_core.log import lines


@dataclass(frozen=True)
class Settings:
    file: str | None
    level: str = "INFO"
    format: lines.Format = "text"
    max_bytes: int = 0
    kept_files: int = 0


class Memory:
    """A target that keeps what it gets, or refuses it, or stalls."""

    name = "memory"
    problem = ""

    def __init__(self) -> None:
        self.data = b""
        self.error: OSError | None = None
        self.open = threading.Event()
        self.open.set()

    def write(self, data: bytes) -> None:
        self.open.wait(10)
        if self.error is not None:
            raise self.error
        self.data += data

    def reopen(self) -> None: ...
    def close(self) -> None: ...


def render(record) -> str:
    return str(record["message"])
