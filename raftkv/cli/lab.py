"""`raftkv lab`: see how consensus works, by breaking a throw-away cluster.

Owns the command: its options, its help, and how it ends. The cluster is made for the
run, in a temporary directory, and deleted afterwards; a real one cannot be named.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import time
from collections.abc import Iterator, Sequence

import click

from raftkv.cli import terminal
from raftkv.cli.lab_cluster import LabCluster, sweep_abandoned
from raftkv.cli.lab_load import LabLoad
from raftkv.cli.lab_run import LabRun
from raftkv.cli.lab_scenarios import SCENARIOS, Scenario
from raftkv.cli.lab_verdict import Check
from raftkv.cli.lab_view import JsonView, LinesView, LiveView, View
from raftkv.cli.local_cluster import LocalClusterError
from raftkv.errors import RaftKvError

# Mean pause of a client; fast enough to see every gap, slow enough for a laptop.
_THINK_S = 0.01
_EPILOG = "\b\nScenarios:\n" + "\n".join(
    f"  {one.name:<16} {one.title}" for one in SCENARIOS.values()
)


@click.command(epilog=_EPILOG)
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)), metavar="[SCENARIO]...")
@click.option("--nodes", type=click.Choice(["3", "5"]), default="3", show_default=True,
              help="How many nodes.")  # fmt: skip
@click.option("--clients", type=click.IntRange(1, 32), default=4, show_default=True, metavar="N",
              help="Clients that write and read all the time.")  # fmt: skip
@click.option("--hold", "hold_s", type=click.FloatRange(0.5, 60.0), default=3.0,
              show_default=True, metavar="SECONDS",
              help="How long each thing hurts at least.")  # fmt: skip
@click.option("--duration", "duration_s", type=click.FloatRange(min=1.0), metavar="SECONDS",
              help="Go on in random order for so long; else each scenario once.")  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Repeat the random choices of a run.")
@click.option("--base-port", type=click.IntRange(1024, 65000), metavar="PORT",
              help="First of 40 ports to use.  [default: free ones]")  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the directory, with data and logs.")
@click.option("--json", "json_output", is_flag=True, help="Write JSON, one event a line.")
def lab(
    scenarios: tuple[str, ...], nodes: str, clients: int, hold_s: float, duration_s: float | None,
    seed: int | None, base_port: int | None, keep: bool, json_output: bool,
) -> None:  # fmt: skip
    """Break a throw-away cluster on this machine, and see how it answers.

    Starts real nodes of its own, lets clients write and read all the time, does one
    thing after the other to the cluster, and says in a line what happens and why. In
    the end it checks the promises: every acknowledged write is on every node, no
    refused one is, no read was stale, no increment was lost or counted twice.

    Needs no privileges. The cluster lives in a temporary directory on ports of its own,
    and is gone afterwards; yours cannot be reached from here.

    \b
    raftkv lab                            every scenario once, in about two minutes
    raftkv lab kill-leader partition      these two
    raftkv lab --nodes 5 --duration 600   anything, for ten minutes

    Exit code 0 when every promise was kept, 1 when one was broken or the cluster did
    not recover; then its data and logs are kept, and named.
    """
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    source = random.Random(seed)
    chosen = [SCENARIOS[name] for name in scenarios or SCENARIOS]
    view: View = JsonView() if json_output else LinesView()
    if not json_output and terminal.is_terminal():
        view = LiveView()
    for directory in sweep_abandoned():
        terminal.echo_error(f"cleaned up after a lab that was killed: {directory}")
    view.tell("start", f"raftkv lab --seed {seed}: {nodes} nodes, {clients} clients")
    try:
        cluster = LabCluster(int(nodes), base_port=base_port)
        cluster.keep = keep
        load = LabLoad(cluster.clients, clients=clients, source=source, think_s=_THINK_S)
        run = LabRun(cluster, load, view, source=source, hold_s=hold_s)
        is_kept = asyncio.run(_run(view, run, _plan(chosen, source, duration_s), clients))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise SystemExit(terminal.EXIT_FAILED) from None
    except (LocalClusterError, OSError) as error:
        terminal.echo_error(error, as_json_line=json_output)
        raise SystemExit(terminal.EXIT_IN_USE) from None
    raise SystemExit(0 if is_kept else terminal.EXIT_FAILED)


def _plan(
    chosen: Sequence[Scenario], source: random.Random, duration_s: float | None
) -> Iterator[tuple[int, int | None, Scenario]]:
    """Yield what to do next: its number, how many there will be if that is known, itself."""
    if duration_s is None:
        for number, scenario in enumerate(chosen, 1):
            yield number, len(chosen), scenario
        return
    end_s = time.monotonic() + duration_s
    bag: list[Scenario] = []
    for number in itertools.count(1):
        bag = bag or source.sample(chosen, len(chosen))
        yield number, None, bag.pop()
        if time.monotonic() >= end_s:
            return


async def _run(
    view: View, run: LabRun, plan: Iterator[tuple[int, int | None, Scenario]], clients: int
) -> bool:
    """Run the plan and judge; returns whether every promise was kept."""
    cluster, load = run.cluster, run.load
    checks: list[Check] = []
    failure = ""
    async with cluster:
        with _ended_by_signals(view, run):
            try:
                view.begin(cluster, load)
                await run.begin(clients)
                for number, count, scenario in plan:
                    await run.perform(number, count, scenario)
                    if run.is_ending:
                        break
                checks = await run.judge()
            except RaftKvError as error:
                failure = str(error)
            finally:
                await view.close()
                await load.close()
        is_kept = not failure and all(check.holds for check in checks)
        cluster.keep = cluster.keep or not is_kept
        view.verdict(run.results, checks)
    kept = f" Data and logs: {cluster.directory}" if cluster.keep else ""
    if is_kept:
        view.end(f"Every promise was kept.{kept}", good=True)
    else:
        what = f"The cluster failed: {failure}." if failure else "A promise was broken."
        view.end(what + kept, good=False)
    return is_kept


@contextlib.contextmanager
def _ended_by_signals(view: View, run: LabRun) -> Iterator[None]:
    """Let one Ctrl-C end the run early, a second one, SIGTERM and SIGHUP at once."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if run.is_ending:
            task.cancel()
            return
        run.is_ending = True
        view.tell("stop", "what hurts is healed, and judged; Ctrl-C again ends at once")

    loop.add_signal_handler(signal.SIGINT, ask)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
