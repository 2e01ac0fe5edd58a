"""A log that writes to a file of the test."""

import logging

import pytest
from loguru import logger

from gateway_core.log import lines, output
from tests.log.kit import Settings


@pytest.fixture
def log_to(tmp_path):
    """`log_to(form)` sets logging up and returns a function that gives the lines written so far."""
    handlers, level = logging.root.handlers[:], logging.root.level
    path = tmp_path / "gateway.log"

    def start(form: lines.Format = "text", least: str = "INFO", held=None):
        output.setup(Settings(str(path), least, form), to_terminal=False, held=held)

        def written() -> list[str]:
            output.flush()
            return path.read_text().splitlines()

        return written

    yield start
    logger.remove()
    output._active.clear()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
