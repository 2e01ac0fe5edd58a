"""A flame graph in SVG: who called whom, and how large a share of the samples each had. The widest frames matter.

What calls is below what it calls, in the order of names; what has less than a pixel is left out. Frames say their share
when pointed at.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_WIDTH, _ROW, _TOP, _CHARACTER = 1000, 17, 30, 6.3
_LEAST = 1.0
_COLOURS = ("#2f81f7", "#3fb950", "#d29922", "#a371f7", "#f78166", "#39c5cf", "#8b949e")

Stack = tuple[str, ...]


@dataclass(slots=True)
class _Frame:
    name: str
    count: int = 0
    inside: dict[str, _Frame] = field(default_factory=dict)


def draw(title: str, stacks: Sequence[tuple[Stack, int]], part: Callable[[str], str], parts: Sequence[str]) -> str:
    """`stacks`: frames from the outermost on, and samples. `part` says which of `parts` a frame is of: its colour."""
    root, depth = _tree(stacks)
    legend = _TOP + (depth + 1) * _ROW + 22
    height = legend + 20 * ((len(parts) + 2) // 3)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'role="img" font-family="monospace" font-size="11">',
        f"<title>{html.escape(title)}</title>",
        f'<text x="4" y="18" font-family="sans-serif" font-size="14" fill="#6e7781">{html.escape(title)}</text>',
    ]
    colour = dict(zip(parts, _COLOURS, strict=False))

    def frame(one: _Frame, x: float, level: int) -> None:
        width = _WIDTH * one.count / root.count
        if width < _LEAST:
            return
        y = _TOP + (depth - level) * _ROW
        share = f"{html.escape(one.name)}: {one.count / root.count:.1%}"
        fill = colour.get(part(one.name), _COLOURS[-1])
        lines.append(
            f'<g><title>{share}</title><rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.5):.1f}" '
            f'height="{_ROW - 1}" fill="{fill}" fill-opacity="0.75"/>'
        )
        room = int((width - 6) / _CHARACTER)
        if room >= 4:
            module, colon, function = one.name.partition(":")
            short = f"{module.rpartition('.')[2]}{colon}{function}"
            shown = short if len(short) <= room else f"{short[: room - 1]}…"
            lines.append(f'<text x="{x + 3:.1f}" y="{y + 12}" fill="#0d1117">{html.escape(shown)}</text>')
        lines.append("</g>")
        for name in sorted(one.inside):
            frame(one.inside[name], x, level + 1)
            x += _WIDTH * one.inside[name].count / root.count

    frame(root, 0.0, 0)
    for place, name in enumerate(parts):
        x, y = 4 + (place % 3) * 330, legend + 20 * (place // 3)
        lines.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour.get(name, _COLOURS[-1])}"/>')
        text = f'<text x="{x + 18}" y="{y + 10}" font-family="sans-serif" fill="#6e7781">{html.escape(name)}</text>'
        lines.append(text)
    return "\n".join([*lines, "</svg>", ""])


def _tree(stacks: Sequence[tuple[Stack, int]]) -> tuple[_Frame, int]:
    """The frames by who called them, without those that all have in common, and the deepest level that is drawn."""
    common = 0
    while len({stack[common : common + 1] for stack, _ in stacks}) == 1 and len(stacks[0][0]) > common + 1:
        common += 1
    root = _Frame("all samples")
    for stack, count in stacks:
        root.count += count
        at = root
        for name in stack[common:]:
            at = at.inside.setdefault(name, _Frame(name))
            at.count += count

    def deep(one: _Frame) -> int:
        drawn = [it for it in one.inside.values() if _WIDTH * it.count / root.count >= _LEAST]
        return 1 + max(map(deep, drawn), default=-1) if drawn else 0

    return root, deep(root)
