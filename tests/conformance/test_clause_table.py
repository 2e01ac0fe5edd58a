"""The table "Clauses of the specification" in docs/protocol.md and the tests say the same."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "protocol.md"
CLAUSES = range(1, 62)


def problems_of(page: str) -> list[str]:
    """What is wrong with the table in the text of a page."""
    section = page.partition("\n## Clauses of the specification\n")[2].partition("\n## ")[0]
    files = {
        label: (PAGE.parent / target).resolve()
        for label, target in re.findall(r"^\[([\w/]+)\]: (\S+)$", section, re.MULTILINE)
    }
    rows = [(int(number), cell) for number, cell in re.findall(r"^\| (\d+) \| .* \| (.*) \|$", section, re.MULTILINE)]
    found = []
    if [number for number, _ in rows] != list(CLAUSES):
        found.append(f"the rows are not the clauses 1 to {CLAUSES[-1]}")
    found += [f"there is no {path}" for path in files.values() if not path.is_file()]
    for number, cell in rows:
        named = named_in(cell)
        if not named and not cell.startswith("does not apply: "):
            found.append(f"{number}: neither a test nor a reason why there is none")
        for label, name in named:
            path = files.get(label)
            if path is None or (path.is_file() and not defines(path, name)):
                found.append(f"{number}: there is no {name} in {label!r}")
        listed = {name for _, name in named}
        found += [f"{number}: {name} is not named" for name in sorted(all_of_them().get(number, set()) - listed)]
    return found


def named_in(cell: str) -> list[tuple[str, str]]:
    """Label of the file and name of each test in a cell: ``[file]: `test_a`, `test_b`; [other]: `test_c` ``."""
    label, found = "", []
    for file, name in re.findall(r"\[([\w/]+)\]|`(test_\w+)`", cell):
        label = file or label
        if name:
            found.append((label, name))
    return found


def defines(path: Path, name: str) -> bool:
    return re.search(rf"^(?:async )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


@functools.cache
def all_of_them() -> dict[int, set[str]]:
    """Clause -> the names of its tests."""
    found: dict[int, set[str]] = {}
    for path in (TESTS / "conformance").glob("test_*.py"):
        source = path.read_text(encoding="utf-8")
        for name, number in re.findall(r"^(?:async )?def (test_clause_(\d\d)_\w+)\(", source, re.MULTILINE):
            found.setdefault(int(number), set()).add(name)
    return found


def test_the_table_names_every_clause_and_every_test_of_it() -> None:
    assert not problems_of(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("\n| 7 |", "\n| 70 |", "the rows are not"),
        ("`test_clause_01_a_foreign", "`test_clause_01_no_foreign", "1: there is no test_clause_01_no_foreign"),
        ("`test_clause_01_a_foreign", "`est_clause_01_a_foreign", "1: test_clause_01_a_foreign_origin"),
        ("[transport]: ../", "[elsewhere]: ../", "1: there is no test_clause_01_a_foreign"),
        ("[transport]: ../tests", "[transport]: ../nowhere", "there is no "),
        ("| [transport]: `test_clause_04", "| `est_clause_04", "4: neither a test nor a reason"),
    ],
)
def test_the_check_of_the_table_finds_mistakes(before: str, after: str, problem: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert before in page
    assert any(found.startswith(problem) for found in problems_of(page.replace(before, after)))
