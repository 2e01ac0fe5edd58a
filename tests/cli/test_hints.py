from pathlib import Path

from gateway_core.cli import hints


def test_a_hint_repeats_the_configuration_that_was_given():
    with hints.repeating({"config": Path("my dir/a.toml")}):
        assert hints.command("stop --now") == "rad mcp proxy stop --config 'my dir/a.toml' --now"


def test_a_hint_repeats_the_state_folder_that_was_given():
    with hints.repeating({"config": None, "_state": Path("state of it")}):
        assert hints.command("stop") == "rad mcp proxy stop --state-dir 'state of it'"


def test_a_hint_names_no_file_that_was_not_given():
    with hints.repeating({"config": None}):
        assert hints.command("stop") == "rad mcp proxy stop"


def test_the_options_are_forgotten_after_the_command():
    with hints.repeating({"config": Path("a.toml")}):
        pass
    assert hints.command("stop") == "rad mcp proxy stop"
