from pathlib import Path

import pytest

from gateway_core.cli import hints


@pytest.fixture(autouse=True)
def _forget():
    yield
    hints.remember({})


def test_a_hint_repeats_the_configuration_that_was_given():
    hints.remember({"config": Path("my dir/a.toml")})
    assert hints.command("stop --now") == "rad mcp proxy stop --config 'my dir/a.toml' --now"


def test_a_hint_repeats_the_state_folder_that_was_given():
    hints.remember({"config": None, "_state": Path("state of it")})
    assert hints.command("stop") == "rad mcp proxy stop --state-dir 'state of it'"


def test_a_hint_names_no_file_that_was_not_given():
    hints.remember({"config": None})
    assert hints.command("stop") == "rad mcp proxy stop"
