import pytest

from gateway_core.cli.rendering.table import cut, show_table, width_of


@pytest.fixture
def terminal(monkeypatch):
    """`terminal(40)`: stdout is a terminal of that width."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)

    def of(columns):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return of


ROWS = [["x" * 12, "twenty cells of text " * 4], ["y", "漢" * 30]]


def test_a_terminal_gets_rows_of_its_width_with_long_cells_cut(terminal, capsys):
    terminal(40)
    show_table(["tool", "description"], ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "tool           description",
        "─" * 40,
        "xxxxxxxxxxxx   twenty cells of text twe…",
        "y              漢漢漢漢漢漢漢漢漢漢漢漢…",
    ]


@pytest.mark.parametrize("columns", [12, 20, 33, 50, 80, 200])
def test_no_row_is_wider_than_the_terminal(terminal, capsys, columns):
    terminal(columns)
    show_table(["a", "b", "c"], [["name" * 9, "upstream" * 4, "text " * 50], ["n", "u", "t"]], indent="  ")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert max(map(width_of, lines)) <= columns


STATUS = [["filesystem", "healthy", "legacy", "12", "fresh, 3 s"], ["n" * 30, "misconfigured", "-", "0", "-"]]


def test_whole_columns_stay_readable_and_others_are_dropped_from_the_right(terminal, capsys):
    names = ["upstream", "state", "era", "tools", "lists"]
    terminal(60)
    show_table(names, STATUS, whole={"upstream", "state"})
    assert capsys.readouterr().out.splitlines() == [
        "upstream                   state           era      tools",
        "─" * 57,
        "filesystem                 healthy         legacy   12",
        "n" * 23 + "…   misconfigured   -        0",
        "more columns with a wider terminal or --json",
    ]
    terminal(20)
    show_table(names, STATUS, whole={"upstream", "state"})
    assert max(map(width_of, capsys.readouterr().out.splitlines()[:-1])) <= 20
    terminal(100)
    show_table(names, STATUS, whole={"upstream", "state"})
    shown = capsys.readouterr().out
    assert "fresh, 3 s" in shown
    assert "more columns" not in shown


def test_a_pipe_gets_the_full_text_even_if_the_shell_has_a_width(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    show_table(["tool", "description"], [["x", "word " * 200]])
    assert capsys.readouterr().out.splitlines()[2] == "x      " + "word " * 199 + "word"


def test_a_cell_that_was_cut_keeps_its_colour(terminal, capsys, monkeypatch):
    terminal(12)
    monkeypatch.setenv("TERM", "xterm")
    show_table(["name", "state"], [["n" * 30, "connecting"]], colours={("state", "connecting"): 33})
    assert "\x1b[33mco" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("漢字漢", 5, "漢字…"), ("漢字", 3, "漢…"), ("ab", 1, "…"), ("ab", 0, "")],
)
def test_text_is_cut_by_terminal_cells(text, width, expected):
    assert cut(text, width) == expected


@pytest.mark.parametrize(
    ("variables", "is_terminal", "coloured"),
    [
        ({}, False, False),
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": ""}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colours_follow_the_terminal_and_the_environment(monkeypatch, capsys, variables, is_terminal, coloured):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    show_table(["state"], [["down"]], colours={("state", "down"): 31})
    assert ("\x1b[31mdown" in capsys.readouterr().out) is coloured
