"""What a run of the suite means: one line, and whether it is good.

Good is: nothing failed that `expected.toml` does not have, and nothing passed that it has.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from suite import Outcome, Requirements


@dataclass(frozen=True, slots=True)
class Result:
    """One line: how each scenario ended, and which contents differ."""

    pair: str
    wanted: Requirements
    outcomes: Mapping[str, Outcome]
    differences: Mapping[str, str]
    known: frozenset[str]

    @property
    def failed(self) -> list[str]:
        """What is required and was skipped has not passed."""
        bad = {name: ("failed", "skipped") if name in self.wanted.scored else ("failed",) for name in self.outcomes}
        return [name for name, each in self.outcomes.items() if each.ended in bad[name]]

    @property
    def unexpected(self) -> list[str]:
        return [name for name in self.failed if name not in self.known]

    @property
    def stale(self) -> list[str]:
        """What was expected to fail and does not; contents are named like `contents:NAME`."""
        ended = {*self.failed, *(f"contents:{name}" for name in self.differences)}
        return sorted(self.known - ended)

    @property
    def differing(self) -> list[str]:
        return [name for name in self.differences if f"contents:{name}" not in self.known]

    @property
    def good(self) -> bool:
        return not (self.unexpected or self.stale or self.differing)

    def line(self) -> str:
        passed = {name for name, each in self.outcomes.items() if each.ended == "passed"}
        scored = f"{len(passed.intersection(self.wanted.scored))}/{len(self.wanted.scored)}"
        extra = f"{len(passed.intersection(self.wanted.not_scored))}/{len(self.wanted.not_scored)}"
        told = [f"{self.wanted.revision}  {self.pair:<20}{scored:>6}  not scored {extra:>5}"]
        told += [f"FAILED {', '.join(self.unexpected)}"] if self.unexpected else []
        told += [f"CONTENTS DIFFER {', '.join(self.differing)}"] if self.differing else []
        told += [f"EXPECTED TO FAIL, BUT PASSED {', '.join(self.stale)}"] if self.stale else []
        expected = len(self.known) - len(self.stale)
        skipped = [name for name in self.wanted.not_scored if self.outcomes[name].ended == "skipped"]
        told += [f"skipped {', '.join(skipped)}"] if skipped else []
        told += [f"{expected} failed as expected"] if expected else []
        return "; ".join(told)

    def report(self) -> str:
        """Why: for the file."""
        why = [f"{name}: {reason}" for name in self.failed for reason in self.outcomes[name].why or ("skipped",)]
        why += [f"{name}: warning: {each}" for name in self.outcomes for each in self.outcomes[name].warnings]
        why += [f"contents:{name}: {each}" for name, each in self.differences.items()]
        return "\n".join([self.line(), "", *why])


def known_failures(pair: str, revision: str) -> frozenset[str]:
    listed = tomllib.loads((Path(__file__).parent / "expected.toml").read_text())["failure"]
    here = [each for each in listed if each["revision"] == revision and {"*", pair}.intersection(each["pairs"])]
    return frozenset(scenario for each in here for scenario in each["scenarios"])
