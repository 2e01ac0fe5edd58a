"""The verdict on a run of the suite, and how its files are read; the suite itself is run by `make conformance`."""

import importlib
import json
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def part(monkeypatch):
    """Imports a module of this folder, which is a folder of scripts and not a package."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module


@pytest.fixture
def result(part):
    """Makes the result of a set with the required scenarios `a` and `b`, and `x`, which is not scored."""
    suite, results = part("suite"), part("results")

    def make(ended, differences=(), known=()):
        wanted = suite.Requirements("2025-11-25", ("a", "b"), ("x",))
        outcomes = {name: suite.Outcome(how) for name, how in zip("abx", ended, strict=True)}
        return results.Result("a pair", wanted, outcomes, dict.fromkeys(differences, "differs"), frozenset(known))

    return make


def test_a_run_is_good_when_everything_passed(result):
    made = result(["passed", "passed", "passed"])
    assert made.good
    assert "2/2" in made.line()


@pytest.mark.parametrize(
    ("ended", "name"), [(["failed", "passed", "passed"], "a"), (["passed", "passed", "failed"], "x")]
)
def test_an_unexpected_failure_is_not_good_and_named(result, ended, name):
    made = result(ended)
    assert not made.good
    assert f"FAILED {name}" in made.line()


def test_a_required_scenario_that_was_skipped_has_failed(result):
    made = result(["skipped", "passed", "passed"])
    assert (made.good, made.unexpected) == (False, ["a"])


def test_a_skipped_scenario_that_is_not_scored_is_only_told(result):
    made = result(["passed", "passed", "skipped"])
    assert made.good
    assert "skipped x" in made.line()


def test_an_expected_failure_is_good(result):
    made = result(["failed", "passed", "passed"], known=["a"])
    assert made.good
    assert "1/2" in made.line()
    assert "1 failed as expected" in made.line()


def test_an_expected_failure_that_passes_is_not_good(result):
    made = result(["passed", "passed", "passed"], known=["a"])
    assert not made.good
    assert "EXPECTED TO FAIL, BUT PASSED a" in made.line()


def test_contents_that_differ_are_not_good(result):
    made = result(["passed", "passed", "passed"], differences=["test_simple_text"])
    assert not made.good
    assert "CONTENTS DIFFER test_simple_text" in made.line()


@pytest.mark.parametrize(
    ("statuses", "ended"),
    [
        (["SUCCESS", "WARNING"], "passed"),
        (["SUCCESS", "FAILURE"], "failed"),
        (["INFO", "SKIPPED"], "skipped"),
        ([], "skipped"),
        (None, "failed"),
    ],
)
def test_a_scenario_passes_with_a_success_and_no_failure(part, tmp_path, statuses, ended):
    # The name of another scenario begins with the one that is looked for.
    for name, checks in (("ping-more", ["FAILURE"]), ("ping", statuses)):
        folder = tmp_path / f"server-{name}-2026-01-02T03-04-05-678Z"
        if checks is not None:
            folder.mkdir()
            (folder / "checks.json").write_text(json.dumps([{"id": "check", "status": each} for each in checks]))
    assert part("suite").outcome(tmp_path, "ping").ended == ended


def test_every_expected_failure_has_a_reason_and_a_pair_that_exists(part):
    pairs = part("pairs")
    names = {pair.name for pair in pairs.PAIRS} | {"*"}
    for entry in tomllib.loads((HERE / "expected.toml").read_text())["failure"]:
        assert entry.keys() == {"pairs", "revision", "scenarios", "reason"}
        assert entry["reason"]
        assert names.issuperset(entry["pairs"])
