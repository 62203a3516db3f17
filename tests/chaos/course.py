"""The course of a chaos run as one page: what was done when, and what the clients got.

Time runs to the right. On top, acknowledged operations in each second, with every time
of more than a second without an acknowledged write marked; below, a row for each nemesis
with a bar from the blow to the healing. The page needs no server and no script.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

_SECOND_PX = 8
_LEFT_PX = 170
_ROW_PX = 18
_RATE_PX = 120
_GAP_US = 1_000_000

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 13px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff; }}
svg {{ display: block; }} div {{ overflow-x: auto; }} p {{ max-width: 60em; }}
.rate {{ fill: #3b7dd8; }} .gap {{ fill: #d8423b; fill-opacity: .18; }}
.blow {{ fill: #d88a3b; }} .grid {{ stroke: #ddd; }} text {{ font-size: 11px; fill: #444; }}
</style></head><body><h1>{title}</h1><p>{summary}</p><div>{picture}</div></body></html>
"""


class Blow(NamedTuple):
    """One nemesis, from when it began to when it was healed, in microseconds."""

    name: str
    began_us: int
    ended_us: int


def write(
    path: Path, *, title: str, summary: str, span_us: tuple[int, int], returned_us: Sequence[int],
    written_us: Sequence[int], blows: Sequence[Blow],
) -> None:  # fmt: skip
    """Draw a run.

    Args:
        path: Of the page.
        title: Which run it was.
        summary: Its figures.
        span_us: When the load began and ended.
        returned_us: When each operation was acknowledged.
        written_us: When each write was, ascending.
        blows: What was done.
    """
    began_us, ended_us = span_us
    names = sorted({one.name for one in blows})
    height_px = _RATE_PX + _ROW_PX * (len(names) + 2)
    width_px = _LEFT_PX + round((ended_us - began_us) / 1e6 * _SECOND_PX) + 20

    def x_px(moment_us: int) -> float:
        return round(_LEFT_PX + (moment_us - began_us) / 1e6 * _SECOND_PX, 1)

    shapes = [_grid(x_px, span_us, height_px)]
    for before, after in pairwise([began_us, *written_us, ended_us]):
        if after - before > _GAP_US:
            hint = f"{(after - before) / 1e6:.2f} s without an acknowledged write"
            width = x_px(after) - x_px(before)
            shapes.append(_box("gap", x_px(before), 0, width, height_px, hint))
    rates = Counter((one - began_us) // 1_000_000 for one in returned_us)
    most = max(rates.values(), default=1)
    for second, rate in sorted(rates.items()):
        bar_px = rate / most * (_RATE_PX - 10)
        left = _LEFT_PX + second * _SECOND_PX
        hint = f"{rate} operations in second {second}"
        shapes.append(_box("rate", left, _RATE_PX - bar_px, _SECOND_PX - 1, bar_px, hint))
    shapes.append(f'<text x="4" y="14">acknowledged a second, at most {most}</text>')
    rows = {name: _RATE_PX + _ROW_PX * (place + 1) for place, name in enumerate(names)}
    for name, top_px in rows.items():
        shapes.append(f'<text x="4" y="{top_px + 12}">{html.escape(name)}</text>')
    for one in blows:
        width = max(2.0, x_px(one.ended_us) - x_px(one.began_us))
        hint = f"{one.name}, {(one.ended_us - one.began_us) / 1e6:.1f} s"
        shapes.append(_box("blow", x_px(one.began_us), rows[one.name] + 2, width, 13, hint))
    picture = f'<svg width="{width_px}" height="{height_px}">{"".join(shapes)}</svg>'
    page = _PAGE.format(title=html.escape(title), summary=html.escape(summary), picture=picture)
    path.write_text(page, encoding="utf-8")


def _grid(x_px, span_us: tuple[int, int], height_px: int) -> str:  # type: ignore[no-untyped-def]
    began_us, ended_us = span_us
    lines = []
    for second in range(0, (ended_us - began_us) // 1_000_000 + 1, 10):
        place = x_px(began_us + second * 1_000_000)
        lines.append(
            f'<line class="grid" x1="{place}" x2="{place}" y1="0" y2="{height_px - 14}"/>'
            f'<text x="{place + 2}" y="{height_px - 3}">{second} s</text>'
        )
    return "".join(lines)


def _box(
    kind: str, x_px: float, y_px: float, width_px: float, height_px: float, hint: str
) -> str:  # fmt: skip
    return (
        f'<rect class="{kind}" x="{x_px:.1f}" y="{y_px:.1f}" width="{width_px:.1f}" '
        f'height="{height_px:.1f}"><title>{html.escape(hint)}</title></rect>'
    )
