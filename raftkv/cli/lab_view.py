"""How the account of `raftkv lab` looks: in a terminal, in a pipe, as JSON.

All three tell the same story. In a terminal a table of the nodes and the pulse of the
acknowledged writes stay below the lines; elsewhere there are lines only, without
colours; as JSON each line is one object. Owns no facts: they come from cli.lab_run.
"""

from __future__ import annotations

import asyncio
import shutil
import textwrap
import time
from collections.abc import Sequence
from typing import Any

import click

from raftkv.cli import terminal
from raftkv.cli.lab_cluster import LabCluster
from raftkv.cli.lab_load import LabLoad, now_us
from raftkv.cli.lab_run import Result
from raftkv.cli.lab_scenarios import Scenario
from raftkv.cli.lab_verdict import Check, Outcome
from raftkv.client.status import lag_entries

_COLOURS = {
    "hurt": "red", "heal": "cyan", "leader": "green", "silence": "yellow", "flow": "green",
    "whole": "green", "start": "cyan", "load": "cyan", "judge": "cyan", "stop": "yellow",
}  # fmt: skip
_ROLE_COLOURS = {**terminal.ROLE_COLOURS, "paused": "yellow", "starting": "yellow"}
_INDENT = " " * 20
_WIDTH_MAX = 100
_REFRESH_S = 0.125
_PULSE_SLICES = 60
_PULSE_SLICE_US = 100_000
_BARS = " ▁▂▃▄▅▆▇█"
RESULT_COLUMNS = (
    "scenario", "longest gap", "acknowledged", "unknown", "refused", "term",
)  # fmt: skip


class LinesView:
    """One line for each thing that happens."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._width = min(_WIDTH_MAX, shutil.get_terminal_size((_WIDTH_MAX, 24)).columns)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the lab began."""
        return time.monotonic() - self._started_s

    def write(self, text: str) -> None:
        """Write one or more lines."""
        click.echo(text)

    def begin(self, cluster: LabCluster, load: LabLoad) -> None:
        """Take what is to be shown while it goes on."""

    async def close(self) -> None:
        """Show nothing any more."""

    def chapter(self, number: int, count: int | None, scenario: Scenario) -> None:
        """Begin a scenario; `count` is None where the time decides."""
        of = f" of {count}" if count else ""
        name = click.style(scenario.name, bold=True)
        self.write(f"\n== {number}{of}: {name}: {scenario.title}")
        self._wrapped(f"   Expect: {scenario.expect}.", "   ")

    def tell(self, kind: str, text: str) -> None:
        """Tell what happened, in a word and a line."""
        self._wrapped(f"{self.elapsed_s:7.1f} s  {kind:<7}  {text}", _INDENT, kind)

    def explain(self, text: str) -> None:
        """Tell why."""
        self._wrapped(f"{_INDENT}{text}", _INDENT, dim=True)

    def _wrapped(self, text: str, indent: str, kind: str = "", *, dim: bool = False) -> None:
        lines = textwrap.wrap(text, self._width, subsequent_indent=indent,
                              break_long_words=False, break_on_hyphens=False)  # fmt: skip
        if dim:
            lines = [click.style(line, dim=True) for line in lines]
        elif kind and lines:
            place = lines[0].index(kind)
            word = click.style(kind, fg=_COLOURS.get(kind), bold=True)
            lines[0] = lines[0][:place] + word + lines[0][place + len(kind) :]
        self.write("\n".join(lines))

    def result(self, result: Result) -> None:
        """Tell what a scenario cost."""
        before, after = result.terms
        term = f"term {before}" if before == after else f"term {before} to {after}"
        self._wrapped(
            f"{_INDENT}{result.gap_s:.2f} s at most without an acknowledged write; "
            f"{result.acknowledged} acknowledged, {result.unknown} unknown, "
            f"{result.refused} refused; {term}",
            _INDENT,
        )

    def verdict(self, results: Sequence[Result], checks: Sequence[Check]) -> None:
        """Tell what came of it all."""
        self.write("")
        if results:
            self._table(RESULT_COLUMNS, [_result_row(one) for one in results])
            self.write("")
        for check in checks:
            word, colour = ("kept", "green") if check.holds else ("BROKEN", "red")
            self._wrapped_verdict(f"{word:<7}", check.promise, colour)
            for problem in check.problems:
                self._wrapped(f"         {problem}", " " * 9)

    def _wrapped_verdict(self, word: str, text: str, colour: str) -> None:
        lines = textwrap.wrap(f"{word}  {text}", self._width, subsequent_indent=" " * 9,
                              drop_whitespace=True)  # fmt: skip
        bare = word.strip()
        lines[0] = click.style(bare, fg=colour, bold=True) + lines[0][len(bare) :]
        self.write("\n".join(lines))

    def _table(self, columns: Sequence[str], rows: Sequence[Sequence[terminal.Cell]]) -> None:
        self.write(terminal.plain_table(columns, rows))

    def end(self, text: str, *, good: bool) -> None:
        """Tell the end in one line."""
        self.write("\n" + click.style(text, fg="green" if good else "red", bold=True))


class LiveView(LinesView):
    """Lines above, and below them the nodes as they are."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console  # costs more than most commands take

        self._console = Console()
        self._live: Any = None
        self._refreshing: asyncio.Task[None] | None = None

    def write(self, text: str) -> None:
        """Write one or more lines."""
        from rich.text import Text

        self._console.print(Text.from_ansi(text))

    def begin(self, cluster: LabCluster, load: LabLoad) -> None:
        """Show the nodes from now on."""
        from rich.live import Live

        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._refreshing = asyncio.create_task(self._refresh(cluster, load))

    async def close(self) -> None:
        """Take the nodes away; the lines stay."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None
        if self._live is not None:
            self._live.stop()
            self._live = None

    async def _refresh(self, cluster: LabCluster, load: LabLoad) -> None:
        while True:
            self._live.update(panel(cluster, load), refresh=True)
            await asyncio.sleep(_REFRESH_S)

    def _table(self, columns: Sequence[str], rows: Sequence[Sequence[terminal.Cell]]) -> None:
        self._console.print(terminal.rich_table(columns, rows))


class JsonView:
    """One object a line, for programs."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()

    def _write(self, event: str, **facts: Any) -> None:
        at_s = round(time.monotonic() - self._started_s, 3)
        terminal.echo_json({"at_s": at_s, "event": event, **facts})

    def begin(self, cluster: LabCluster, load: LabLoad) -> None:
        """Take what is to be shown while it goes on."""

    async def close(self) -> None:
        """Show nothing any more."""

    def chapter(self, number: int, count: int | None, scenario: Scenario) -> None:
        """Begin a scenario; `count` is None where the time decides."""
        self._write("scenario", number=number, name=scenario.name, title=scenario.title)

    def tell(self, kind: str, text: str) -> None:
        """Tell what happened, in a word and a line."""
        self._write(kind, text=text)

    def explain(self, text: str) -> None:
        """Tell why."""
        self._write("why", text=text)

    def result(self, result: Result) -> None:
        """Tell what a scenario cost."""
        self._write("result", **result._asdict())

    def verdict(self, results: Sequence[Result], checks: Sequence[Check]) -> None:
        """Tell what came of it all."""
        for check in checks:
            self._write(
                "promise", kept=check.holds, text=check.promise, problems=list(check.problems)
            )

    def end(self, text: str, *, good: bool) -> None:
        """Tell the end in one line."""
        self._write("end", ok=good, text=text)


View = LinesView | JsonView


def _result_row(result: Result) -> list[terminal.Cell]:
    before, after = result.terms
    return [
        result.scenario, f"{result.gap_s:.2f} s", str(result.acknowledged), str(result.unknown),
        str(result.refused), str(after) if before == after else f"{before} to {after}",
    ]  # fmt: skip


def node_rows(cluster: LabCluster) -> list[list[terminal.Cell]]:
    """Return the rows of the table of nodes."""
    statuses = [node.status for node in cluster.nodes if node.status is not None]
    rows: list[list[terminal.Cell]] = []
    for node in cluster.nodes:
        status = node.status
        lag = None if status is None else lag_entries(status, statuses)
        links: terminal.Cell = "whole"
        if cluster.links.is_cut_off(node.id):
            links = ("cut", "red")
        rows.append([
            node.id, (node.role, _ROLE_COLOURS.get(node.role, "")),
            "-" if status is None else str(status.term),
            "-" if status is None else str(status.applied_index),
            "-" if lag is None else str(lag), links, node.client,
        ])  # fmt: skip
    return rows


def pulse(rates: Sequence[int]) -> str:
    """Return a bar for each rate, the greatest the tallest; an empty place is a silence."""
    most = max(rates, default=0)
    if not most:
        return _BARS[0] * len(rates)
    return "".join(_BARS[-(-rate * (len(_BARS) - 1) // most)] for rate in rates)


def panel(cluster: LabCluster, load: LabLoad) -> Any:
    """Return the nodes, the pulse of the acknowledged writes, and the counts."""
    from rich.console import Group
    from rich.text import Text

    rates = load.rates(_PULSE_SLICES, _PULSE_SLICE_US, now_us())
    a_second = 1_000_000 // _PULSE_SLICE_US
    table = terminal.rich_table(
        ("node", "role", "term", "applied", "lag", "links", "address"), node_rows(cluster)
    )
    told = "   ".join(f"{load.counts[one]} {one.value}" for one in Outcome)
    return Group(
        Text(""),
        table,
        Text.assemble(
            ("  acknowledged writes, last 6 s  ", "dim"), (pulse(rates), "green"),
            (f"  {sum(rates[-a_second:])}/s", "bold"),
        ),
        Text(f"  writes: {told}   reads: {load.read_count}", style="dim"),
        Text("  Ctrl-C heals and judges; twice, it ends at once.", style="dim"),
    )  # fmt: skip
