"""The pictures of the benchmarks, by matplotlib where it is installed.

Owns colours and shapes: raftkv is always the same strong blue, the others are muted, so
that a reader finds it without the legend. Bars show the median with the spread of the
rounds; axes begin at zero unless they are logarithmic.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.loads import Measurement
from tests.bench.report import Spread, of_rounds

# matplotlib is an extra (`pip install '.[bench]'`); everything else works without it.
COLOURS = {
    "raftkv-3": "#1f5fd0", "raftkv-1": "#6fa0ee", "raftkv-5": "#123a85", "raftkv-7": "#0a2350",
    "redis-always": "#c8553d", "redis-everysec": "#e09f7d", "redis-none": "#e3b79c",
    "redis-wait": "#a23b5c", "etcd": "#3a9188", "pysyncobj": "#b9b3c4",
    "pysyncobj-tuned": "#7d7491", "echo": "#b5b5b5",
}  # fmt: skip
_GREY = "#8a8a8a"
_PIXELS_PER_INCH = 130
_SHARE_MAX = 2.0
_DECADES_SHOWN_WHOLE = 10**3.5


def pyplot() -> Any | None:
    """Return matplotlib's pyplot without a screen, or None with a message."""
    try:
        import matplotlib
    except ImportError:
        print("no plots: matplotlib is not installed (the extra `bench`)", file=sys.stderr)
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({
        "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
        "axes.edgecolor": _GREY, "axes.titleweight": "bold", "axes.titlesize": 11,
        "axes.titlelocation": "left", "axes.grid": True, "axes.axisbelow": True,
        "grid.color": "#e6e6e6", "xtick.color": "#444444", "ytick.color": "#444444",
        "figure.dpi": _PIXELS_PER_INCH, "legend.frameon": False,
    })  # fmt: skip
    return plt


def _save(plt: Any, figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    print(f"written: {path}", flush=True)


def _thousands(value: float, _: object = None) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _log_scale(axis: Any) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5, or at 1 where there are many."""
    from matplotlib import ticker

    if axis.axis_name == "y":
        axis.axes.set_yscale("log")
    else:
        axis.axes.set_xscale("log")
    least, most = axis.get_view_interval()
    wide = least > 0 and most / least > _DECADES_SHOWN_WHOLE
    axis.set_major_locator(ticker.LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=12))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(_thousands)


def _short(value: float) -> str:
    """Return a rate for the end of a bar."""
    if value >= 1_000_000:
        return f"{value / 1e6:.2f}M"
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


def plot_throughput(
    measurements: Sequence[Measurement], titles: dict[str, str], path: Path
) -> None:
    """Draw one panel of bars a workload, a bar a contender."""
    if (plt := pyplot()) is None:
        return
    workloads = list(dict.fromkeys(one.workload for one in measurements))
    columns = min(2, len(workloads))
    rows = -(-len(workloads) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(6.2 * columns, 0.5 + 3.1 * rows), squeeze=False
    )
    for place, workload in enumerate(workloads):
        _bars(axes[place // columns][place % columns], measurements, workload, titles)
    for place in range(len(workloads), rows * columns):
        axes[place // columns][place % columns].set_visible(False)
    figure.suptitle("Throughput: median of the rounds, with their spread", x=0.01, ha="left",
                    fontsize=13, fontweight="bold")  # fmt: skip
    figure.tight_layout()
    _save(plt, figure, path)


def _bars(
    axes: Any, measurements: Sequence[Measurement], workload: str, titles: dict[str, str]
) -> None:
    shown = [
        (name, Spread.of([one.rate for one in turns.values()]))
        for name in titles
        if (turns := of_rounds(measurements, name, workload))
    ]
    shown.reverse()
    for place, (name, spread) in enumerate(shown):
        strong = name == "raftkv-3"
        axes.barh(place, spread.median, color=COLOURS.get(name, _GREY), height=0.72)
        axes.plot([spread.least, spread.most], [place, place], color="#333333", linewidth=1)
        axes.annotate(
            _short(spread.median), (max(spread.median, spread.most), place), xytext=(5, 0),
            textcoords="offset points", va="center", fontsize=8.5,
            fontweight="bold" if strong else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(shown)), [titles[name] for name, _ in shown], fontsize=8.5)
    axes.set_title(workload)
    axes.xaxis.set_major_formatter(_thousands)
    axes.set_xlim(0, 1.16 * max((spread.most for _, spread in shown), default=1))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("requests a second", fontsize=8.5)


def plot_latencies(measurements: Sequence[Measurement], titles: dict[str, str], path: Path) -> None:
    """Draw p50, p95, p99 and the longest of every contender, one panel a workload."""
    if (plt := pyplot()) is None:
        return
    workloads = list(dict.fromkeys(one.workload for one in measurements))
    columns = min(2, len(workloads))
    rows = -(-len(workloads) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(6.2 * columns, 0.5 + 3.1 * rows), squeeze=False
    )
    names = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
    for place in range(rows * columns):
        panel = axes[place // columns][place % columns]
        if place >= len(workloads):
            panel.set_visible(False)
            continue
        for contender in titles:
            turns = list(of_rounds(measurements, contender, workloads[place]).values())
            if turns:
                medians = [
                    Spread.of([getattr(one, name) for one in turns]).median for name in names
                ]
                strong = contender == "raftkv-3"
                panel.plot(
                    ["p50", "p95", "p99", "max"], medians, marker="o", markersize=4,
                    color=COLOURS.get(contender, _GREY), linewidth=2.6 if strong else 1.4,
                    label=titles[contender], zorder=3 if strong else 2,
                )  # fmt: skip
        _log_scale(panel.yaxis)
        panel.set_ylabel("ms", fontsize=8.5)
        panel.set_title(workloads[place])
    handles = {
        label: handle
        for panel in figure.axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="upper left", ncols=5, fontsize=8.5,
        bbox_to_anchor=(0.01, 0.0),
    )  # fmt: skip
    figure.suptitle("Latency: medians of the rounds", x=0.01, ha="left", fontsize=13,
                    fontweight="bold")  # fmt: skip
    figure.tight_layout()
    _save(plt, figure, path)


def plot_over_time(
    timelines: dict[str, dict[str, Any]], titles: dict[str, str], title: str, path: Path,
    *, marks: Sequence[tuple[float, str]] = (),
) -> None:  # fmt: skip
    """Draw the longest and the median latency of every moment of one run.

    Args:
        timelines: By contender, as `raftkv bench --json` gives them.
        marks: Seconds at which something happened, and what.
    """
    if (plt := pyplot()) is None:
        return
    figure, axes = plt.subplots(
        len(timelines), 1, figsize=(10, 0.6 + 2.1 * len(timelines)), squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    for panel, (name, timeline) in zip(axes[:, 0], timelines.items(), strict=True):
        width_s = timeline["window_s"]
        seconds = [width_s * (place + 0.5) for place in range(len(timeline["rate"]))]
        colour = COLOURS.get(name, _GREY)
        panel.fill_between(seconds, timeline["p99_ms"], color=colour, alpha=0.18, linewidth=0)
        for key, thickness, label in (
            ("max_ms", 0.7, "longest"), ("p99_ms", 1.0, "p99"), ("p50_ms", 1.8, "p50"),
        ):  # fmt: skip
            values = [value if value > 0 else float("nan") for value in timeline[key]]
            panel.plot(seconds, values, color=colour, linewidth=thickness, label=label,
                       linestyle=":" if key == "max_ms" else "-")  # fmt: skip
        panel.axhline(50, color="#c8553d", linewidth=0.8, linestyle="--")
        _log_scale(panel.yaxis)
        panel.set_ylabel("ms", fontsize=8.5)
        panel.set_title(titles.get(name, name))
        panel.legend(loc="lower right", ncols=3, fontsize=8, bbox_to_anchor=(1, 0.98))
        if name.startswith("raftkv"):
            for second, what in marks:
                panel.axvline(second, color="#333333", linewidth=0.9)
                panel.annotate(what, (second, 1), xycoords=("data", "axes fraction"),
                               xytext=(4, -10), textcoords="offset points", fontsize=8)  # fmt: skip
    axes[-1][0].set_xlabel("seconds", fontsize=8.5)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.tight_layout(rect=(0, 0, 1, 0.99))
    _save(plt, figure, path)


def plot_growth(series: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw one panel for each thing that grows, logarithmic on both axes.

    Args:
        series: Each with `title`, `across`, `up` (names of the axes) and `lines`, a
            dict from label to (x, y) points. With `linear`, the first point of a line is
            carried on as what linear growth would be.
    """
    if (plt := pyplot()) is None:
        return
    columns = min(3, len(series))
    rows = -(-len(series) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.7 * columns, 0.5 + 3.3 * rows), squeeze=False
    )
    colours = ("#1f5fd0", "#c8553d", "#3a9188", "#7d7491")
    for place in range(rows * columns):
        panel = axes[place // columns][place % columns]
        if place >= len(series):
            panel.set_visible(False)
            continue
        one = series[place]
        for colour, (label, points) in zip(colours, one["lines"].items(), strict=False):
            across, up = [point[0] for point in points], [point[1] for point in points]
            panel.plot(across, up, marker="o", markersize=4, color=colour, linewidth=2, label=label)
            if one.get("linear") and points:
                panel.plot(across, [up[-1] * x / across[-1] for x in across], color=colour,
                           linewidth=0.8, linestyle="--", label="linear")  # fmt: skip
        _log_scale(panel.xaxis)
        _log_scale(panel.yaxis)
        places = {point[0] for points in one["lines"].values() for point in points}
        panel.set_xticks(sorted(places))
        panel.set_title(one["title"])
        panel.set_xlabel(one["across"], fontsize=8.5)
        panel.set_ylabel(one["up"], fontsize=8.5)
        if len(one["lines"]) > 1 or one.get("linear"):
            panel.legend(fontsize=8)
    figure.suptitle("Growth", x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.tight_layout()
    _save(plt, figure, path)


def plot_goals(shares: Sequence[tuple[str, float, bool]], path: Path) -> None:
    """Draw how much of each goal is reached; everything right of the line is met.

    Args:
        shares: Name, part of the goal (1 is the goal itself), and whether it is met.
    """
    if (plt := pyplot()) is None:
        return
    figure, axes = plt.subplots(figsize=(9.5, 0.9 + 0.36 * len(shares)))
    for place, (name, share, met) in enumerate(reversed(shares)):
        colour = "#3a9188" if met else "#c8553d"
        axes.barh(place, share, color=colour, height=0.66)
        beyond = share > _SHARE_MAX
        axes.annotate(
            f"{share:.0%}", (min(share, _SHARE_MAX), place), xytext=(-6 if beyond else 5, 0),
            textcoords="offset points", va="center", ha="right" if beyond else "left",
            fontsize=8.5, color="white" if beyond else "#222222",
        )  # fmt: skip
        axes.annotate(name, (0, place), xytext=(-8, 0), textcoords="offset points", va="center",
                      ha="right", fontsize=9)  # fmt: skip
    axes.set_yticks([])
    axes.axvline(1, color="#333333", linewidth=1.2)
    axes.set_xlim(0, _SHARE_MAX)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="y", visible=False)
    axes.set_title("Part of the goal that is reached")
    figure.tight_layout()
    _save(plt, figure, path)


def plot_tail(
    latencies: dict[str, list[tuple[float, float]]], slices: dict[str, list[float]], path: Path
) -> None:
    """Draw what long-running works do to a client, and their longest slices.

    Args:
        latencies: By work, p99.9 in ms of each round: in the control run, and beside the work.
        slices: By work, the longest slice of each round in ms.
    """
    if (plt := pyplot()) is None:
        return
    works = list(reversed(latencies))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 0.9 + 0.5 * len(works)), sharey=True, width_ratios=(3, 2)
    )
    for place, work in enumerate(works):
        for lift, colour, values in (
            (0.18, _GREY, [control for control, _ in latencies[work]]),
            (-0.18, "#1f5fd0", [beside for _, beside in latencies[work]]),
        ):
            _median_bar(left, place + lift, values, colour)
        _median_bar(right, place, slices[work], "#1f5fd0")
    left.set_yticks(range(len(works)), works, fontsize=8.5)
    left.set_title("p99.9 of a client's latency: control grey, beside the work blue")
    right.set_title("Longest slice of a loop, processor time")
    right.axvline(5, color="#c8553d", linewidth=0.8, linestyle="--")
    for panel in (left, right):
        panel.set_xlabel("ms", fontsize=8.5)
        panel.grid(axis="y", visible=False)
    figure.tight_layout()
    _save(plt, figure, path)


def _median_bar(axes: Any, place: float, values: Sequence[float], colour: str) -> None:
    spread = Spread.of(values)
    axes.barh(place, spread.median, color=colour, height=0.34)
    axes.plot([spread.least, spread.most], [place, place], color="#333333", linewidth=1)
