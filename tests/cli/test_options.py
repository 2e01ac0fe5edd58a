"""Options that typer does not convert by itself."""

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from gateway_core.cli.options import Command, Group


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def run(seen: list[Any]) -> Any:
    app = typer.Typer(cls=Group, add_completion=False)

    @app.callback()
    def root(debug: Annotated[bool, typer.Option("--debug", help="Say more.")] = False) -> None:
        seen.append(debug)

    @app.command(cls=Command)
    def one(
        config: Annotated[Path | None, typer.Option("--config")] = None,
        number: Annotated[int | None, typer.Option("--number")] = None,
        texts: Annotated[list[str] | None, typer.Option("--text")] = None,
        needed: Annotated[str, typer.Option("--needed")] = ...,  # type: ignore[assignment]
    ) -> None:
        seen.extend((config, number, texts, needed))

    return lambda *arguments: CliRunner().invoke(app, ["one", *arguments])


def test_absent_options_have_their_defaults(run: Any, seen: list[Any]) -> None:
    assert run("--needed", "x").exit_code == 0
    assert seen[:3] == [False, None, None]
    assert not seen[3]
    assert seen[4] == "x"


def test_given_options_have_their_types(run: Any, seen: list[Any]) -> None:
    found = run("--config", "a b", "--number", "7", "--text", "1", "--text", "2", "--needed", "x")
    assert found.exit_code == 0, found.output
    assert seen == [False, Path("a b"), 7, ["1", "2"], "x"]


@pytest.mark.parametrize("wrong", [["--needed", "x", "--number", "seven"], [], ["--needed", "x", "--config"]])
def test_wrong_options_are_wrong_usage(run: Any, seen: list[Any], wrong: list[str]) -> None:
    assert run(*wrong).exit_code == 2
    assert len(seen) <= 1


def test_help_lists_the_options(run: Any, seen: list[Any]) -> None:
    found = run("--help")
    assert found.exit_code == 0
    assert "--config" in found.output
    assert seen == [False] or seen == []
