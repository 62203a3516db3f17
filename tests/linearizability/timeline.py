"""A picture of one part of a history, as one HTML file without a server or a network.

One lane a client, one bar an operation from its call to its return; an unknown one is
dashed and never ends. The numbered dots are the order that the checker found, each at
a moment within its bar; the track at the bottom shows what the keys held after it.
The operation that nothing explains is red. Below the picture the same as a list.

The time axis keeps the order of all calls and returns and stretches the distances, so
that every bar is wide enough to be read. Only drawing: what is wrong was decided by
the checker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from tests.linearizability.checker import PartResult, Verdict, explain
from tests.linearizability.history import Operation, Outcome
from tests.linearizability.models import MODELS

_LABEL_CHARACTERS_MAX = 34
_CHARACTER_PX = 6.7
_PADDING_PX = 28
_GAP_PX_MIN = 16
_GAP_PX_MAX = 72
_LEFT_PX = 24
_TAIL_PX = 90
_ROW_PX = 54
_BAR_PX = 28
_AXIS_PX = 44
_LANE_GAP_PX = 10
_STATE_PX = 30
_TICK_PX = 110
_DOT_PX_MIN = 21
_DOT_PX_WISH = 58

_HEADLINES = {
    Verdict.OK: "Linearizable",
    Verdict.ILLEGAL: "Not linearizable",
    Verdict.UNKNOWN: "Not decided",
}

_STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d2330; --soft: #667085; --line: #e4e2dc;
  --band: #f5f3ee; --read: #dcebfb; --read-edge: #5b93cf; --write: #dff3e4;
  --write-edge: #4d9f68; --open: #f1eff4; --open-edge: #9489a8; --bad: #fde3e1;
  --bad-edge: #d0362b; --dot: #3d4a66; --dot-ink: #ffffff; --path: #3d4a66;
  --state: #f8ecd2; --state-edge: #c99a3c; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171d; --card: #1b1f27; --ink: #e6e8ec; --soft: #98a1b3; --line: #2e3440;
  --band: #20252e; --read: #1d3450; --read-edge: #5f9bdc; --write: #1c3a29;
  --write-edge: #56b077; --open: #2a2733; --open-edge: #9489a8; --bad: #4c1f1d;
  --bad-edge: #f0665b; --dot: #ccd3e2; --dot-ink: #14171d; --path: #ccd3e2;
  --state: #3b311b; --state-edge: #c99a3c; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 32px clamp(16px, 4vw, 56px) 56px; background: var(--paper);
  color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header { max-width: 76rem; margin-bottom: 22px; }
h1 { display: flex; flex-wrap: wrap; align-items: center; gap: 14px; margin: 0 0 8px;
  font-size: 25px; font-weight: 650; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 34px 0 10px; font-size: 17px; font-weight: 650; }
.badge { padding: 3px 12px; border-radius: 99px; border: 1px solid; font-size: 13px;
  font-weight: 600; letter-spacing: .01em; white-space: nowrap; }
.badge.ok { color: var(--write-edge); background: var(--write); }
.badge.illegal { color: var(--bad-edge); background: var(--bad); }
.badge.unknown { color: var(--open-edge); background: var(--open); }
p { margin: 0 0 6px; max-width: 76rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); font-size: 13.5px; }
.board { display: grid; grid-template-columns: max-content 1fr; border: 1px solid var(--line);
  border-radius: 12px; overflow: hidden; background: var(--card);
  box-shadow: 0 1px 2px rgb(0 0 0 / .05), 0 8px 24px rgb(0 0 0 / .04); }
.names { border-right: 1px solid var(--line); background: var(--card); }
.names div { position: relative; display: flex; align-items: center; padding: 0 18px;
  font-weight: 600; font-size: 13.5px; }
.names .state-name { color: var(--state-edge); }
.scroll { overflow-x: auto; }
svg { display: block; font: 12px ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
.band { fill: var(--band); }
.tick { stroke: var(--line); }
.tick-text { fill: var(--soft); font-size: 11px; }
.bar { stroke-width: 1.3; }
.read .bar { fill: var(--read); stroke: var(--read-edge); }
.write .bar { fill: var(--write); stroke: var(--write-edge); }
.open .bar { fill: var(--open); stroke: var(--open-edge); stroke-dasharray: 5 3; }
.open .tail { stroke: var(--open-edge); stroke-width: 1.3; stroke-dasharray: 2 5; }
.bad .bar { fill: var(--bad); stroke: var(--bad-edge); stroke-width: 2; }
.left-out .bar { fill-opacity: .45; stroke-opacity: .6; }
.left-out text { fill: var(--soft); }
.bar-text { fill: var(--ink); }
.operation:target .bar, .operation:hover .bar { stroke-width: 2.6; }
.path { fill: none; stroke: var(--path); stroke-opacity: .28; stroke-width: 1.6; }
.dot { fill: var(--dot); }
.dot-text { fill: var(--dot-ink); font-size: 10px; font-weight: 600; text-anchor: middle; }
.cross { stroke: var(--card); stroke-width: 2; stroke-linecap: round; }
.bad-dot { fill: var(--bad-edge); }
.bad-line { stroke: var(--bad-edge); stroke-dasharray: 4 4; stroke-opacity: .75; }
.state { fill: var(--state); stroke: var(--state-edge); }
.state-text { fill: var(--ink); font-size: 11.5px; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 22px; margin-top: 12px; }
.legend span { display: inline-flex; align-items: center; gap: 7px; }
.swatch { width: 22px; height: 12px; border-radius: 4px; border: 1.3px solid; }
.swatch.read { background: var(--read); border-color: var(--read-edge); }
.swatch.write { background: var(--write); border-color: var(--write-edge); }
.swatch.open { background: var(--open); border: 1.3px dashed var(--open-edge); }
.swatch.bad { background: var(--bad); border-color: var(--bad-edge); }
.swatch.round { width: 14px; height: 14px; border-radius: 50%; border: 0; background: var(--dot); }
.table { overflow-x: auto; border: 1px solid var(--line); border-radius: 12px;
  background: var(--card); }
table { width: 100%; border-collapse: collapse; font-size: 13.5px; }
th { text-align: left; font-weight: 600; color: var(--soft); background: var(--band); }
th, td { padding: 6px 14px; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th.number { text-align: right; }
td.number { text-align: right; font-variant-numeric: tabular-nums; color: var(--soft);
  white-space: nowrap; }
td code { font: 12.5px ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
td a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: 3px; }
tr.bad td { background: var(--bad); }
@media print { .scroll { overflow: visible; } }
"""

# The offence is mostly at the far end of the picture.
_SCRIPT = """
const bad = document.querySelector(".operation.bad");
if (bad && !location.hash) {
  const box = document.querySelector(".scroll");
  box.scrollLeft = bad.getBBox().x - box.clientWidth * 0.6;
}
"""


@dataclass(slots=True)
class _Bar:
    """Where one operation is drawn."""

    number: int
    operation: Operation
    first_px: float = 0.0
    end_px: float = 0.0
    top_px: float = 0.0
    place: int = 0
    dot_px: float = 0.0


@dataclass(slots=True)
class _Lane:
    client: str
    rows: int
    top_px: float

    @property
    def height_px(self) -> float:
        return self.rows * _ROW_PX + _LANE_GAP_PX


class Timeline:
    """The drawing of one part.

    Args:
        part: Judged.
        comment: What the history is, in a line.
    """

    def __init__(self, part: PartResult, *, comment: str = "") -> None:
        self._part = part
        self._comment = comment
        self._with_keys = len(part.keys) > 1
        self._bars = [_Bar(number, operation) for number, operation in enumerate(part.operations)]
        by_identity = {id(bar.operation): bar for bar in self._bars}
        self._ordered = [by_identity[id(operation)] for operation in part.order]
        for place, bar in enumerate(self._ordered, start=1):
            bar.place = place
        self._start_us = min((bar.operation.called_us for bar in self._bars), default=0)
        self._places_px = self._stretch()
        self._width_px = max(self._places_px.values(), default=0.0) + _TAIL_PX
        self._lanes = self._lay_out()
        self._place_dots()

    # ------------------------------------------------------------------------ places

    def _label(self, operation: Operation) -> str:
        text = operation.label(with_keys=self._with_keys)
        if len(text) <= _LABEL_CHARACTERS_MAX:
            return text
        half = (_LABEL_CHARACTERS_MAX - 1) // 2
        return f"{text[:half]}…{text[-half:]}"

    def _label_px(self, operation: Operation) -> float:
        return len(self._label(operation)) * 7.3 + _PADDING_PX

    def _stretch(self) -> dict[int, float]:
        """Give every time a place, so that a label fits between each call and return."""
        returns: dict[int, list[Operation]] = {}
        times = set()
        for bar in self._bars:
            times.add(bar.operation.called_us)
            if bar.operation.returned_us is not None:
                times.add(bar.operation.returned_us)
                returns.setdefault(bar.operation.returned_us, []).append(bar.operation)
        ordered = sorted(times)
        gaps_us = [later - earlier for earlier, later in pairwise(ordered)]
        mean_us = sum(gaps_us) / len(gaps_us) if gaps_us else 1.0
        places_px: dict[int, float] = {}
        at_px = float(_LEFT_PX)
        for position, time_us in enumerate(ordered):
            if position:
                wide_px = 26 * math.sqrt(gaps_us[position - 1] / mean_us)
                at_px += min(max(wide_px, _GAP_PX_MIN), _GAP_PX_MAX)
            for operation in returns.get(time_us, ()):
                # A call in the same microsecond has its place already, or gets this one.
                called_px = places_px.get(operation.called_us, at_px)
                at_px = max(at_px, called_px + self._label_px(operation))
            places_px[time_us] = at_px
        return places_px

    def _lay_out(self) -> list[_Lane]:
        """Give every client a lane, and rows in it for what overlaps."""
        lanes = []
        top_px = float(_AXIS_PX)
        for client in sorted({bar.operation.client for bar in self._bars}):
            ends_px: list[float] = []
            for bar in self._bars:
                if bar.operation.client != client:
                    continue
                bar.first_px = self._places_px[bar.operation.called_us]
                bar.end_px = self._end_px(bar)
                blocked_px = math.inf if _is_open(bar.operation) else bar.end_px
                row = next(
                    (row for row, end_px in enumerate(ends_px) if end_px <= bar.first_px + 1),
                    len(ends_px),
                )
                ends_px[row : row + 1] = [blocked_px]
                bar.top_px = top_px + _LANE_GAP_PX / 2 + row * _ROW_PX + 6
            lane = _Lane(client, len(ends_px), top_px)
            lanes.append(lane)
            top_px += lane.height_px
        return lanes

    def _end_px(self, bar: _Bar) -> float:
        wide_px = bar.first_px + self._label_px(bar.operation)
        if bar.operation.returned_us is None:
            self._width_px = max(self._width_px, wide_px + _TAIL_PX)
            return wide_px
        # Only a bar without width, called and returned in one microsecond, is made wider.
        end_px = self._places_px[bar.operation.returned_us]
        return end_px if end_px > bar.first_px else wide_px

    def _place_dots(self) -> None:
        """Put each dot into its bar, after the one before it, with room for a state."""
        # By dot, how far to the right it may lie so that all later ones still find
        # their bars: with the usual distance between them, and with none.
        roomy_px = tight_px = math.inf
        limits_px: list[tuple[float, float]] = []
        for bar in reversed(self._ordered):
            end_px = math.inf if _is_open(bar.operation) else bar.end_px
            roomy_px = min(roomy_px - _DOT_PX_MIN, end_px - 10)
            tight_px = min(tight_px, end_px - 8)
            limits_px.append((roomy_px, tight_px))
        at_px = 0.0
        for bar, (roomy_px, tight_px) in zip(self._ordered, reversed(limits_px), strict=True):
            wish_px = max(
                at_px + _DOT_PX_MIN, bar.first_px + 12, min(at_px + _DOT_PX_WISH, roomy_px)
            )
            at_px = bar.dot_px = max(at_px, min(wish_px, tight_px))

    # ----------------------------------------------------------------------- drawing

    def html(self) -> str:
        """Return the whole file."""
        part = self._part
        keys = ", ".join(part.keys)
        comment = f"<p>{escape(self._comment)}</p>" if self._comment else ""
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(_HEADLINES[part.verdict])}: {escape(keys)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(keys)} <span class="badge {part.verdict.value}">{_HEADLINES[part.verdict]}</span></h1>
{comment}<p>{escape(explain(part))}</p>
<p class="soft">{len(part.operations)} operations of {len(self._lanes)} clients,
{part.configurations} configurations searched in {part.elapsed_s:.2f} s.
The axis keeps the order of all calls and returns; distances are stretched to be readable.</p>
</header>
<div class="board">
<div class="names" aria-hidden="true">{self._names()}</div>
<div class="scroll" tabindex="0">{self._svg()}</div>
</div>
{_LEGEND}
<h2>{self._list_title()}</h2>
<div class="table"><table>
<thead><tr><th class="number">#</th><th>Client</th><th>Operation</th>
<th class="number">Called</th><th class="number">Returned</th>
<th>Afterwards</th></tr></thead>
<tbody>
{"".join(self._list_rows())}</tbody>
</table></div>
{self._left_out()}
<script>{_SCRIPT}</script>
</body>
</html>
"""

    def _names(self) -> str:
        names = [f'<div style="height:{_AXIS_PX}px"></div>']
        for lane in self._lanes:
            names.append(f'<div style="height:{lane.height_px:g}px">{escape(lane.client)}</div>')
        names.append(f'<div class="state-name" style="height:{_STATE_PX + 24}px">state</div>')
        return "".join(names)

    @property
    def _bottom_px(self) -> float:
        return _AXIS_PX + sum(lane.height_px for lane in self._lanes)

    def _svg(self) -> str:
        height_px = self._bottom_px + _STATE_PX + 24
        width_px = max([self._width_px, *(bar.dot_px + 40 for bar in self._ordered)])
        self._width_px = width_px
        pieces = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width_px:.0f}" '
            f'height="{height_px:.0f}" role="img" aria-label="Timeline of the operations">'
        ]
        for position, lane in enumerate(self._lanes):
            if position % 2 == 0:
                pieces.append(
                    f'<rect class="band" x="0" y="{lane.top_px:g}" width="{width_px:.0f}" '
                    f'height="{lane.height_px:g}"/>'
                )
        pieces += self._ticks()
        pieces += self._bad_line()
        pieces += self._draw_path()
        for bar in self._bars:
            pieces.append(self._draw_bar(bar))
        pieces += self._draw_dots()
        pieces += self._draw_states()
        pieces.append("</svg>")
        return "\n".join(pieces)

    def _ticks(self) -> Iterator[str]:
        last_px = -math.inf
        for time_us, at_px in sorted(self._places_px.items()):
            if at_px - last_px >= _TICK_PX:
                last_px = at_px
                yield (
                    f'<line class="tick" x1="{at_px:.1f}" y1="30" x2="{at_px:.1f}" '
                    f'y2="{self._bottom_px:g}"/>'
                    f'<text class="tick-text" x="{at_px:.1f}" y="21">{self._time(time_us)}</text>'
                )

    def _time(self, time_us: int | None) -> str:
        return "never" if time_us is None else f"{(time_us - self._start_us) / 1000:.3f} ms"

    def _bad_line(self) -> Iterator[str]:
        for bar in self._bars:
            if bar.operation is self._part.offender:
                yield (
                    f'<line class="bad-line" x1="{bar.end_px:.1f}" y1="30" '
                    f'x2="{bar.end_px:.1f}" y2="{self._bottom_px + _STATE_PX + 12:g}"/>'
                )

    def _draw_bar(self, bar: _Bar) -> str:
        operation = bar.operation
        is_bad = operation is self._part.offender
        style = "bad" if is_bad else _style_of(operation)
        if not bar.place and not is_bad:
            style += " left-out"
        middle_px = bar.top_px + _BAR_PX / 2
        width_px = bar.end_px - bar.first_px
        pieces = [
            f'<g class="operation {style}" id="operation-{bar.number}">',
            f"<title>{escape(self._title(operation))}</title>",
        ]
        if _is_open(operation):
            pieces.append(
                f'<line class="tail" x1="{bar.end_px:.1f}" y1="{middle_px:.1f}" '
                f'x2="{self._width_px:.1f}" y2="{middle_px:.1f}"/>'
            )
        pieces.append(
            f'<rect class="bar" x="{bar.first_px:.1f}" y="{bar.top_px:.1f}" rx="7" '
            f'width="{width_px:.1f}" height="{_BAR_PX}"/>'
            f'<text class="bar-text" x="{bar.first_px + 9:.1f}" y="{middle_px + 4:.1f}">'
            f"{escape(self._label(operation))}</text>"
        )
        if is_bad:
            pieces.append(_cross(bar.end_px - 11, bar.top_px + _BAR_PX))
        pieces.append("</g>")
        return "".join(pieces)

    def _title(self, operation: Operation) -> str:
        return (
            f"{operation}\ncalled {self._time(operation.called_us)}, "
            f"returned {self._time(operation.returned_us)}, {operation.outcome.value}"
        )

    def _draw_path(self) -> Iterator[str]:
        points = [(bar.dot_px, bar.top_px + _BAR_PX) for bar in self._ordered]
        if len(points) > 1:
            path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
            for (from_px, from_y_px), (to_px, to_y_px) in pairwise(points):
                middle_px = (from_px + to_px) / 2
                path += (
                    f"C{middle_px:.1f} {from_y_px:.1f} {middle_px:.1f} {to_y_px:.1f} "
                    f"{to_px:.1f} {to_y_px:.1f}"
                )
            yield f'<path class="path" d="{path}"/>'

    def _draw_dots(self) -> Iterator[str]:
        for bar in self._ordered:
            at_px, y_px = bar.dot_px, bar.top_px + _BAR_PX
            yield (
                f'<circle class="dot" cx="{at_px:.1f}" cy="{y_px:.1f}" r="9.5"/>'
                f'<text class="dot-text" x="{at_px:.1f}" y="{y_px + 3.5:.1f}">{bar.place}</text>'
            )

    def _draw_states(self) -> Iterator[str]:
        """Draw what the keys hold, from each change to the next."""
        top_px = self._bottom_px + 6
        first = 0
        states = self._part.states
        while first < len(states):
            end = first
            while end < len(states) and states[end] == states[first]:
                end += 1
            from_px = self._ordered[first].dot_px
            to_px = self._ordered[end].dot_px if end < len(states) else self._last_px(from_px)
            text = " or ".join(self._bare(state) for state in states[first])
            room = int((to_px - from_px - 12) / _CHARACTER_PX)
            yield (
                f'<rect class="state" x="{from_px:.1f}" y="{top_px:g}" rx="5" '
                f'width="{max(to_px - from_px - 2, 3):.1f}" height="{_STATE_PX - 4}">'
                f"<title>{escape(text)}</title></rect>"
            )
            shown = text if len(text) <= room else f"…{text[-room + 1 :]}" if room > 2 else ""
            yield (
                f'<text class="state-text" x="{from_px + 6:.1f}" y="{top_px + 17.5:g}" '
                f'pointer-events="none">{escape(shown)}</text>'
            )
            first = end

    def _bare(self, state: str) -> str:
        """Leave the key away where there is only one."""
        return state if self._with_keys else state.removeprefix(f"{self._part.keys[0]}=")

    def _last_px(self, from_px: float) -> float:
        ends_px = [bar.end_px for bar in self._bars if bar.operation is self._part.offender]
        return max(from_px + 120, *(ends_px or [self._width_px - 12]))

    # -------------------------------------------------------------------------- list

    def _list_title(self) -> str:
        if self._part.verdict is Verdict.OK:
            return "The order"
        return f"The longest order, which ends after {len(self._ordered)} operations"

    def _list_rows(self) -> Iterator[str]:
        for bar, states in zip(self._ordered, self._part.states, strict=True):
            yield self._row(bar, str(bar.place), " or ".join(states), "")
        for bar in self._bars:
            if bar.operation is self._part.offender:
                yield self._row(bar, "✗", "fits nowhere", ' class="bad"')

    def _row(self, bar: _Bar, place: str, after: str, style: str) -> str:
        operation = bar.operation
        return (
            f'<tr{style}><td class="number">{place}</td><td>{escape(operation.client)}</td>'
            f'<td><a href="#operation-{bar.number}"><code>{escape(operation.label())}</code></a>'
            f'</td><td class="number">{self._time(operation.called_us)}</td>'
            f'<td class="number">{self._time(operation.returned_us)}</td>'
            f"<td><code>{escape(after)}</code></td></tr>\n"
        )

    def _left_out(self) -> str:
        left_out = [
            bar for bar in self._bars if not bar.place and bar.operation is not self._part.offender
        ]
        if not left_out:
            return ""
        rows = "".join(self._row(bar, "", "", "") for bar in left_out)
        return (
            "<h2>Not in this order: of unknown outcome, or still to return</h2>\n"
            f'<div class="table"><table><tbody>\n{rows}</tbody></table></div>'
        )


_LEGEND = """<div class="legend soft">
<span><i class="swatch read"></i>changes nothing</span>
<span><i class="swatch write"></i>may change</span>
<span><i class="swatch open"></i>unknown outcome: at any time, or never</span>
<span><i class="swatch bad"></i>explained by no order</span>
<span><i class="swatch round"></i>place in the order</span>
</div>"""


def _cross(x_px: float, y_px: float) -> str:
    lines = "".join(
        f'<line class="cross" x1="{x_px - 3.2:.1f}" y1="{y_px - side:.1f}" '
        f'x2="{x_px + 3.2:.1f}" y2="{y_px + side:.1f}"/>'
        for side in (3.2, -3.2)
    )
    return f'<circle class="bad-dot" cx="{x_px:.1f}" cy="{y_px:.1f}" r="9.5"/>{lines}'


def _is_open(operation: Operation) -> bool:
    return operation.outcome is Outcome.UNKNOWN


def _style_of(operation: Operation) -> str:
    if _is_open(operation):
        return "open"
    return "read" if MODELS["store"].is_observation(operation) else "write"


def write(path: Path, parts: Sequence[PartResult], *, comment: str = "") -> PartResult:
    """Draw the part that is worth a look into a file, and return it.

    Args:
        path: Written anew.
        parts: At least one; the first that is not ok is drawn, else the largest.
        comment: What the history is.
    """
    failing = [part for part in parts if part.verdict is not Verdict.OK]
    part = failing[0] if failing else max(parts, key=lambda one: len(one.operations))
    path.write_text(Timeline(part, comment=comment).html(), encoding="utf-8")
    return part
