"""`raftkv bench`: how fast a running cluster is, as its clients see it.

Owns the options with their limits, the search for the leader, and the report.
The load is made by cli.bench_load, in this process; the report says when this
process was the limit instead of the cluster.

The keys of a run begin with its prefix; they stay unless --clean is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from raftkv.cli import terminal
from raftkv.cli.options import Target, target_options
from raftkv.client.protocol import encode_text
from raftkv.client.sync_client import Client

if TYPE_CHECKING:
    from raftkv.cli.bench_load import Load, LoadResult

READ_SHARES = {"set": 0.0, "get": 1.0, "mixed": 0.9}
DURATION_S_DEFAULT = 10.0
# Of a run that is bounded by its number of requests.
DURATION_S_MAX = 3600.0
# Requests in flight are held in memory here and in the cluster.
IN_FLIGHT_BYTES_MAX = 256 * 1024 * 1024
# From this share of a processor on, the numbers say more about this process.
BUSY_SHARE = 0.9
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARKLINE_WIDTH = 60
# What the first word of an error means for the request.
_MEANINGS = {
    "MOVED": "not executed: another node leads",
    "CLUSTERDOWN": "not executed: no leader",
    "NOTAPPLIED": "not executed",
    "UNKNOWN": "perhaps executed",
    "connection lost": "perhaps executed",
    "no reply": "perhaps executed",
    "not sent": "not executed: the cluster was too far behind",
}

Function = TypeVar("Function", bound=Callable[..., Any])


def load_options(function: Function) -> Function:
    """Give a command the options of a load; it receives a `Load` as `load`."""

    @click.option("--clients", "-c", type=click.IntRange(1, 10_000), default=50,
                  show_default=True, help="Connections.")  # fmt: skip
    @click.option("--pipeline", "-P", type=click.IntRange(1, 10_000), default=1,
                  show_default=True, help="Requests in flight on each connection.")  # fmt: skip
    @click.option("--value-size", "-s", type=click.IntRange(0, 64 * 1024 * 1024), default=100,
                  metavar="BYTES", show_default=True, help="Size of a value.")  # fmt: skip
    @click.option("--keys", "-k", type=click.IntRange(1, 100_000_000), default=100_000,
                  show_default=True, help="Different keys, taken at random.")  # fmt: skip
    @click.option("--duration", "-d", type=click.FloatRange(0.1, DURATION_S_MAX), default=None,
                  metavar="SECONDS", help="Length of the run; default 10.")  # fmt: skip
    @click.option("--requests", "-r", type=click.IntRange(1, 1_000_000_000), default=None,
                  metavar="COUNT", help="End after so many requests.")  # fmt: skip
    @click.option("--rate", type=click.FloatRange(0.1, 1_000_000), default=None,
                  metavar="PER-SECOND",
                  help="Open loop: ask at this rate whatever the cluster does, and measure from "
                  "the time at which each request was due.")  # fmt: skip
    @click.option("--reads", type=click.FloatRange(0, 1), default=None, metavar="SHARE",
                  help="Part of GETs in `mixed`; default 0.9.")  # fmt: skip
    @click.option("--prefix", default="bench:", show_default=True,
                  help="Begin of every key; a number of twelve digits follows.")  # fmt: skip
    @click.option("--in-order", is_flag=True, help="Take the keys one after the other.")
    @click.option("--seed", type=int, default=1, show_default=True,
                  help="Repeats the random choices.")  # fmt: skip
    @functools.wraps(function)
    def run(*arguments: Any, workload: str, clients: int, pipeline: int, value_size: int,
            keys: int, duration: float | None, requests: int | None, rate: float | None,
            reads: float | None, prefix: str, in_order: bool, seed: int,
            **options: Any) -> Any:  # fmt: skip
        from raftkv.cli.bench_load import Load

        _check_load(workload, clients * pipeline * value_size, pipeline, rate, reads)
        limit_s = DURATION_S_DEFAULT if requests is None else DURATION_S_MAX
        load = Load(
            read_share=READ_SHARES[workload] if reads is None else reads,
            clients=clients, pipeline=pipeline, value_bytes=value_size, keys=keys,
            duration_s=limit_s if duration is None else duration, requests=requests,
            rate=rate, prefix=encode_text(prefix), in_order=in_order, seed=seed,
        )  # fmt: skip
        return function(*arguments, workload=workload, load=load, **options)

    wrapped: Any = run
    result: Function = wrapped
    return result


def _check_load(
    workload: str, in_flight_bytes: int, pipeline: int, rate: float | None, reads: float | None
) -> None:
    """Refuse options that contradict each other."""
    if in_flight_bytes > IN_FLIGHT_BYTES_MAX:
        raise click.UsageError(
            f"--clients x --pipeline x --value-size is {in_flight_bytes:,} bytes in flight; "
            f"allowed: {IN_FLIGHT_BYTES_MAX:,}."
        )
    if reads is not None and workload != "mixed":
        raise click.UsageError("--reads is for the workload `mixed`.")
    if rate is not None and pipeline != 1:
        raise click.UsageError("--rate decides what is in flight; it goes without --pipeline.")


@click.command()
@click.argument("workload", type=click.Choice(list(READ_SHARES)), default="set")
@load_options
@click.option("--fill", is_flag=True, help="Write every key once before, unmeasured.")
@click.option("--clean", is_flag=True, help="Delete the keys of the run afterwards.")
@target_options
def bench(workload: str, load: Load, fill: bool, clean: bool, target: Target) -> None:
    """Measure a running cluster: SETs, GETs or a mix of both.

    Loads the leader, and follows it when it moves. Overwrites keys that begin with
    --prefix; they stay unless --clean is given. Exit code 1 when no request at all
    had a result.
    """
    from raftkv.cli.bench_load import run_load

    with target.open() as client:
        addresses = find_leader(client)
        if fill:
            run_load(filling(load), addresses)
        result = run_load(load, addresses)
        if clean:
            _delete_keys(client, load)
    said = report(workload, load, result)
    if target.json:
        terminal.echo_json(said)
    else:
        _show(said)
    if not said["succeeded"]:
        raise SystemExit(terminal.EXIT_FAILED)


def find_leader(client: Client[bytes]) -> tuple[str, ...]:
    """Return the nodes, the leader first.

    A single server without cluster commands is taken as it is.

    Raises:
        RequestError: Nobody answers, or there is no leader.
    """
    # Any read is redirected to the leader, and any connection learns the members.
    client.execute("GET", "bench:")
    leader = client.leader or client.addresses[0]
    return tuple(dict.fromkeys((leader, *client.addresses)))


def filling(load: Load) -> Load:
    """Return the load that writes every key of another one once."""
    from raftkv.cli.bench_load import Load

    depth = max(1, min(64, IN_FLIGHT_BYTES_MAX // (16 * max(1, load.value_bytes))))
    return Load(
        clients=16, pipeline=depth, value_bytes=load.value_bytes, keys=load.keys,
        prefix=load.prefix, duration_s=DURATION_S_MAX, requests=load.keys, in_order=True,
    )  # fmt: skip


def _delete_keys(client: Client[bytes], load: Load) -> None:
    from raftkv.cli.bench_load import key_names

    step = 1000
    for first in range(0, load.keys, step):
        end = min(load.keys, first + step)
        client.execute("DEL", *key_names(load.prefix, first, end))


# ------------------------------------------------------------------- report


def report(workload: str, load: Load, result: LoadResult) -> dict[str, Any]:
    """Return everything that was measured, for a program."""
    samples = result.samples
    succeeded = samples.succeeded
    return {
        "workload": workload,
        "server": result.address,
        "loop": "closed" if load.rate is None else "open",
        "clients": load.clients,
        "pipeline": load.pipeline,
        "value_bytes": load.value_bytes,
        "keys": load.keys,
        "read_share": load.read_share,
        "rate_wanted": load.rate,
        "seconds": round(result.seconds, 4),
        "succeeded": succeeded,
        "failed": sum(samples.errors.values()),
        "misses": samples.misses,
        "rate": round(succeeded / result.seconds, 1),
        "latency_ms": samples.latency_ms(),
        "errors": dict(sorted(samples.errors.items())),
        "stalls": samples.stall_report(),
        "generator": {
            "processor_share": round(result.processor_s / result.seconds, 3),
            "late_ms": result.late.latency_ms() if load.rate is not None else None,
        },
        "timeline": samples.timeline(),
    }


def sparkline(values: list[float], width: int = _SPARKLINE_WIDTH) -> str:
    """Return a line of little bars; neighbours are joined where there are too many."""
    if not values:
        return ""
    step = -(-len(values) // width)
    joined = [
        sum(values[first : first + step]) / len(values[first : first + step])
        for first in range(0, len(values), step)
    ]
    highest = max(joined) or 1.0
    return "".join(_SPARKS[min(7, int(value / highest * 7.99))] for value in joined)


def headline(said: dict[str, Any]) -> str:
    """Return what was run, in one line."""
    loop = (
        f"pipeline {said['pipeline']}" if said["loop"] == "closed"
        else f"open loop at {said['rate_wanted']:,.0f}/s"
    )  # fmt: skip
    share = f" ({said['read_share']:.0%} reads)" if said["workload"] == "mixed" else ""
    return (
        f"{said['workload']}{share}: {terminal.count_of(said['clients'], 'client')}, {loop}, "
        f"values of {said['value_bytes']:,} B, {terminal.count_of(said['keys'], 'key')}, "
        f"{said['seconds']:.1f} s against {said['server']}"
    )


def latency_rows(said: dict[str, Any]) -> list[list[terminal.Cell]]:
    """Return the one row of the main table."""
    latency = said["latency_ms"]
    names = ("p50", "p95", "p99", "p99_9", "max")
    return [[
        f"{said['rate']:,.0f}", *[f"{latency[name]:,.2f}" for name in names],
        f"{said['failed']:,}",
    ]]  # fmt: skip


COLUMNS = ("requests/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "max ms", "errors")


def error_rows(said: dict[str, Any]) -> list[list[terminal.Cell]]:
    """Return one row for each kind of error."""
    return [
        [(kind, "red"), f"{count:,}", _MEANINGS.get(kind, "not executed: refused by the server")]
        for kind, count in said["errors"].items()
    ]


def remarks(said: dict[str, Any]) -> list[str]:
    """Return what a reader of the numbers has to know."""
    found = []
    if said["stalls"]["count"]:
        stalls = said["stalls"]
        found.append(
            f"{terminal.count_of(stalls['count'], 'stall')} over {stalls['over_ms']:.0f} ms, "
            f"the longest {stalls['longest_ms']:,.0f} ms"
        )
    if said["misses"]:
        found.append(f"{said['misses']:,} reads found no key; --fill writes the keys before")
    share = said["generator"]["processor_share"]
    if share >= BUSY_SHARE:
        found.append(f"this process used {share:.0%} of a processor: it may have been the limit")
    late = said["generator"]["late_ms"]
    if late is not None and late["p99"] > 2:
        found.append(f"this process asked late: p99 {late['p99']:.1f} ms, counted as latency")
    return found


def _show(said: dict[str, Any]) -> None:
    click.secho(headline(said), bold=True)
    terminal.echo_table(COLUMNS, latency_rows(said))
    timeline = said["timeline"]
    if len(timeline["rate"]) > 2:
        for name, values in (("requests/s", timeline["rate"]), ("p99 ms", timeline["p99_ms"])):
            # The last window is not whole.
            line = click.style(sparkline(values[:-1]), fg="cyan")
            click.echo(f"{name:>10}  {line}  to {max(values):,.0f}")
    if said["errors"]:
        terminal.echo_table(("error", "count", "meaning"), error_rows(said))
    for remark in remarks(said):
        click.secho(f"* {remark}", fg="yellow")
