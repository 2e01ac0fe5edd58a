"""What all tests of the core share."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _files_that_only_the_owner_writes() -> Iterator[None]:
    """The gateway refuses configuration files that a group may write, which a umask of 002 makes by default."""
    before = os.umask(0o022)
    yield
    os.umask(before)
