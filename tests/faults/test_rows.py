"""The table of the fault matrix: every row has tests, and they exist."""

import ast
from pathlib import Path

import pytest

from tests.faults.rows import ROWS, nodes

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


def functions(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_the_matrix_has_sixty_rows() -> None:
    assert sorted(ROWS) == list(range(1, 61))
    assert [number for number, row in ROWS.items() if not any(row.tests.values())] == []


@pytest.mark.parametrize("number", ROWS)
def test_the_tests_of_a_row_exist(number: int) -> None:
    for file, tests in ROWS[number].tests.items():
        assert set(tests) <= functions(ROOT / file)


def test_every_test_that_is_named_after_a_row_proves_it() -> None:
    for file in HERE.glob("test_*.py"):
        named = {test for test in functions(file) if test.startswith("test_row_")}
        listed = {
            test
            for number, row in ROWS.items()
            for test in row.tests.get(f"tests/faults/{file.name}", ())
            if test.startswith(f"test_row_{number:02}_")
        }
        assert named == listed


def test_no_test_runs_twice() -> None:
    assert len(nodes()) == len(set(nodes()))
