"""Tables that fit the terminal.

Long cells are cut with an ellipsis, never wrapped. Columns that stay whole take the place of others, from the right.
Into a pipe or a file goes the full text.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final
from unicodedata import east_asian_width

from gateway_core.log.escaping import escape, wants_colour

GREEN: Final = 32
RED: Final = 31
YELLOW: Final = 33
_MIN_LAST: Final = 20
"""Terminal cells that the last column keeps while the other columns can stay whole."""
MAX_WHOLE: Final = 24
"""Terminal cells of a column that stays whole."""
_MORE: Final = "more columns with a wider terminal or --json"
_GAP: Final = "   "
MAX_SENTENCE: Final = 1000
"""Terminal cells of an error or warning outside of tables."""


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    colours: Mapping[tuple[str, str], int] = MappingProxyType({}),
    indent: str = "",
    whole: Collection[str] = (),
) -> None:
    """Print a table on stdout, every cell escaped and in one line.

    Columns named in `right` are aligned to the right. `colours`: (column, text of the whole cell) -> its colour
    (ECMA-48, SGR). On a terminal, cells are cut so that each row fits a line. A table with columns in `whole` drops
    its other columns instead, from the right; those in `whole` keep `MAX_WHOLE` cells.
    """
    cells = [[escape(" ".join(cell.split())) for cell in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(columns, *cells, strict=True)]
    limit, dropped = line_width(), False
    if limit is not None:
        limit -= len(indent)
        if whole:
            kept = _kept(columns, widths, whole, limit)
            dropped = len(kept) < len(columns)
            widths = [min(widths[at], MAX_WHOLE) if columns[at] in whole else widths[at] for at in kept]
            columns, cells = [columns[at] for at in kept], [[row[at] for at in kept] for row in cells]
        widths = _fitting(widths, limit - len(_GAP) * (len(widths) - 1))

    def put_line(line: Sequence[str]) -> None:
        aligned = []
        for name, text, width in zip(columns, line, widths, strict=True):
            short = cut(text, width)
            space, colour = " " * (width - width_of(short)), colours.get((name, text))
            cell = short if colour is None else painted(short, colour)
            aligned.append(space + cell if name in right else cell + space)
        print(indent + _GAP.join(aligned).rstrip())

    put_line(columns)
    print(indent + "─" * (sum(widths) + len(_GAP) * (len(widths) - 1)))
    for row in cells:
        put_line(row)
    if dropped:
        print(f"{indent}{_MORE}")


def painted(text: str, colour: int) -> str:
    """`text` in a colour, if stdout has colours."""
    return f"\x1b[{colour}m{text}\x1b[0m" if wants_colour(sys.stdout) else text


def line_width() -> int | None:
    """Terminal cells of a line of stdout; None if it is no terminal, where lines have no limit."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def sentence(text: str) -> str:
    """`text` of an upstream, escaped and without line breaks; on a terminal cut to `MAX_SENTENCE`."""
    line = escape(" ".join(text.split()))
    return line if line_width() is None else cut(line, MAX_SENTENCE)


def width_of(text: str) -> int:
    """Terminal cells that `text` takes."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def cut(text: str, width: int) -> str:
    """`text` in at most `width` terminal cells; a cut text ends in `…`."""
    if width_of(text) <= width:
        return text
    kept, used = "", 1
    for character in text:
        used += width_of(character)
        if used > width:
            break
        kept += character
    return f"{kept}…" if width > 0 else ""


def _kept(columns: Sequence[str], widths: Sequence[int], whole: Collection[str], available: int) -> list[int]:
    """The indexes of the columns that fit into `available` cells, and of those in `whole`."""
    kept = list(range(len(columns)))
    others = [at for at in kept if columns[at] not in whole]
    needed = {at: widths[at] if at in others else min(widths[at], MAX_WHOLE) for at in kept}
    while others and sum(needed[at] for at in kept) + len(_GAP) * (len(kept) - 1) > available:
        kept.remove(others.pop())
    return kept


def _fitting(widths: Sequence[int], available: int) -> list[int]:
    """`widths` made narrower until their sum is `available`: the last column first, then the widest ones."""
    found = list(widths)
    found[-1] = min(found[-1], max(available - sum(found[:-1]), _MIN_LAST))
    if sum(found) <= available:
        return found
    low, high = 1, max(found)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(min(width, middle) for width in found) <= available else (low, middle - 1)
    found = [min(width, low) for width in found]
    for index, width in enumerate(widths):  # cells that are left over
        if found[index] < width and sum(found) < available:
            found[index] += 1
    return found
