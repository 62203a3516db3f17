"""`raftkv up` and `raftkv down`: a cluster on this machine, shown while it runs.

Owns what people see. In a terminal that is a table that stays in its place;
elsewhere one line for each thing that happens. The processes belong to
cli.local_cluster.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from raftkv.cli import admin, terminal
from raftkv.cli.local_cluster import (
    InUseError,
    LocalCluster,
    LocalClusterError,
    LocalNode,
    make_cluster,
    open_cluster,
)
from raftkv.cli.node_commands import refuse
from raftkv.client.status import NodeStatus
from raftkv.client.sync_client import Client
from raftkv.errors import ConfigError

DIRECTORY_DEFAULT = Path("raftkv-data")
# The first election waits for all members; a busy machine takes its time.
_READY_S_MAX = 30.0
_REFRESH_S = 0.5
_EXIT_MEANINGS = {
    0: "stopped as asked",
    2: "bad config",
    3: "damaged data",
    4: "a port or the data directory is in use",
    6: "the disk failed, or an internal error",
    7: "refused by the cluster",
}

Say = Callable[[str], None]

_DIRECTORY = click.option(
    "--dir", "directory", default=DIRECTORY_DEFAULT, show_default=True, metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path), help="Files and data; kept between runs.",
)  # fmt: skip


def exit_meaning(code: int) -> str:
    """Return how a process ended, in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"
    meaning = _EXIT_MEANINGS.get(code)
    return f"exit code {code}" + (f": {meaning}" if meaning else "")


def _exit_label(code: int) -> str:
    """Return how a process ended, short enough for a column of 80."""
    if code >= 0:
        return f"exit {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


@click.command()
@click.option("--nodes", type=click.IntRange(1, 15), metavar="N", help="How many.  [default: 3]")
@_DIRECTORY
@click.option("--base-port", type=int, metavar="PORT",
              help="Client port of the first node.  [default: 7001]")  # fmt: skip
@click.option("--detach", "-d", is_flag=True, help="Return when the cluster is ready.")
def up(nodes: int | None, directory: Path, base_port: int | None, detach: bool) -> None:
    """Start a cluster of real processes on this machine and show how it is.

    Ctrl-C stops it; its data stays in DIR and is used again. Exit code 4 when a
    port is taken or the cluster already runs.
    """
    try:
        cluster = make_cluster(directory, nodes=nodes, base_port=base_port)
        cluster.check_free()
    except ConfigError as error:
        refuse(error)
    except InUseError as error:
        terminal.echo_error(error)
        raise SystemExit(terminal.EXIT_IN_USE) from None
    except LocalClusterError as error:
        terminal.echo_error(error)
        raise SystemExit(terminal.EXIT_USAGE) from None
    with _stop_signals():
        try:
            cluster.start()
            count = terminal.count_of(len(cluster.nodes), "node")
            _say(f"Starting {count} in {cluster.directory}")
            view = _View(cluster)
            if detach:
                _wait_until_ready(view)
                return
            _show_while_running(view)
        except (KeyboardInterrupt, _StopRequestedError):
            _stop(cluster)
        except OSError as error:
            # The terminal or the reader of the pipe is gone, and with it whoever
            # could press Ctrl-C; or a process or its files could not be made.
            is_unheard = error.errno in (errno.EPIPE, errno.EIO)
            if not is_unheard:
                terminal.echo_error(error)
            _stop(cluster, failed=not is_unheard)


@click.command()
@_DIRECTORY
def down(directory: Path) -> None:
    """Stop the cluster that `up` started in DIR; its data stays."""
    try:
        cluster = open_cluster(directory)
    except ConfigError as error:
        refuse(error)
    if cluster is None:
        terminal.echo_error(f"there is no cluster in {directory}")
        raise SystemExit(terminal.EXIT_FAILED)
    stopped = cluster.stop(killed=_tell_killed)
    for node in stopped:
        click.echo(f"{node.node_id} stopped")
    if not stopped:
        click.echo(f"Nothing is running in {directory}")
    _tell_left_alone(cluster)


class _StopRequestedError(Exception):
    """SIGTERM or SIGHUP came."""


@contextlib.contextmanager
def _stop_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop the cluster as Ctrl-C does."""

    def request(number: int, frame: FrameType | None) -> NoReturn:
        raise _StopRequestedError

    previous = {
        number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _say(text: str, *, err: bool = False) -> None:
    """Write a line where that is still possible.

    Nodes are stopped, or left running, as asked, also when the terminal has been
    closed or nobody reads the pipe any more.
    """
    try:
        click.echo(text, err=err)
    except OSError:
        stream = sys.stderr if err else sys.stdout
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _stop(cluster: LocalCluster, *, failed: bool = False) -> None:
    """Stop what runs and end; exit code 1 if a node did not stop as asked, or `failed`."""
    _say("\nStopping ...")
    already = {node.node_id for node, _ in cluster.ended()}
    stopped = cluster.stop(killed=_tell_killed)
    for node in stopped:
        code = node.exit_code()
        if node.node_id not in already:
            _say(f"{node.node_id} stopped")
        # A process that was asked before it could answer ends by the signal itself.
        failed = failed or code not in (0, None, -signal.SIGTERM)
    _tell_left_alone(cluster)
    _say(f"The data is kept in {cluster.directory}")
    raise SystemExit(terminal.EXIT_FAILED if failed else 0)


def _tell_killed(node: LocalNode) -> None:
    text = f"{node.node_id} did not stop in time and was killed"
    _say(click.style(text, fg="yellow"), err=True)


def _tell_left_alone(cluster: LocalCluster) -> None:
    """Name what still listens where the nodes did: most likely started by hand."""
    addresses = cluster.taken_client_addresses()
    if addresses:
        text = f"not started by `raftkv up`, and left alone: {', '.join(addresses)}"
        _say(click.style(text, fg="yellow"), err=True)


class _View:
    """What is known of the processes and of the nodes in them."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.statuses: list[NodeStatus] = []
        self._client = Client(cluster.clients, deadline_s=1.0)
        self._threads = ThreadPoolExecutor(max_workers=len(cluster.nodes))
        self._told: set[str] = set()
        self._leader = ""

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def refresh(self, say: Say) -> None:
        """Ask every node, and tell what has happened since the last time."""
        self.statuses = list(self._threads.map(self._ask, self.cluster.nodes))
        for node, code in self.cluster.ended():
            if node.node_id not in self._told:
                self._told.add(node.node_id)
                self._tell_end(node, code, say)
        leaders = [status for status in self.statuses if status.is_leader]
        if leaders:
            leader = max(leaders, key=lambda status: status.term)
            if leader.node_id != self._leader:
                self._leader = leader.node_id
                say(f"{leader.node_id} leads in term {leader.term} at {leader.address}")

    def _ask(self, node: LocalNode) -> NodeStatus:
        return self._client.node_status(node.client)

    def _tell_end(self, node: LocalNode, code: int, say: Say) -> None:
        colour = "green" if code == 0 else "red"
        say(click.style(f"{node.node_id} ended ({exit_meaning(code)})", fg=colour))
        if code != 0:
            for line in node.last_log_lines():
                say(f"  {line}")
            say(f"  Its whole log: {node.log}")
            directory = self.cluster.directory
            say(f"  To start it again: cd {directory} && raftkv start --config {node.config.name}")

    @property
    def has_leader(self) -> bool:
        """Whether somebody leads."""
        return any(status.is_leader for status in self.statuses)

    @property
    def is_ready(self) -> bool:
        """Whether somebody leads and every node answers and knows it."""
        return self.has_leader and all(status.leader_id for status in self.statuses)

    def rows(self) -> list[list[terminal.Cell]]:
        """Return the rows of the table, one a node, with its process."""
        rows = admin.status_rows(self.statuses)
        for row, node, status in zip(rows, self.cluster.nodes, self.statuses, strict=True):
            code = node.exit_code()
            row[0] = node.node_id
            if status.error:
                row[1] = ("starting", "yellow") if code is None else ("stopped", "red")
            process: terminal.Cell = "by hand"
            if code is None and node.process is not None:
                process = str(node.process.pid)
            elif code is not None and status.error:
                process = (_exit_label(code), "red")
            row.append(process)
        return rows


def _hints(cluster: LocalCluster) -> list[str]:
    """Return what to type next."""
    first_port = cluster.nodes[0].client.rpartition(":")[2]
    hints = [
        "raftkv set greeting hello",
        "raftkv cli",
        f"redis-cli -c -p {first_port} GET greeting",
    ]
    if int(first_port) != 7001:
        hints.insert(0, f"export RAFTKV_NODES={cluster.clients}")
    return hints


def _wait_until_ready(view: _View) -> None:
    """Wait for a leader; stop everything and fail if a node ends or time runs out."""
    end_s = time.monotonic() + _READY_S_MAX
    with contextlib.closing(view):
        while not view.is_ready:
            view.refresh(_say)
            ended = view.cluster.ended()
            if ended or time.monotonic() > end_s:
                reason = "a node ended" if ended else f"no leader within {_READY_S_MAX:.0f} s"
                terminal.echo_error(f"{reason}; stopping the others")
                view.cluster.stop(killed=_tell_killed)
                raise SystemExit(terminal.EXIT_FAILED)
            time.sleep(0.1)
    _say(f"Ready: {view.cluster.clients}")
    _say("Try:   " + "\n       ".join(_hints(view.cluster)))
    _say(f"Stop:  raftkv down --dir {view.cluster.directory}")


def _show_while_running(view: _View) -> None:
    """Show the cluster until every node has ended or somebody stops it."""
    with contextlib.closing(view):
        if terminal.is_terminal():
            _show_live(view)
        else:
            _show_lines(view)
    codes = [code for _, code in view.cluster.ended()]
    view.cluster.stop()
    raise SystemExit(terminal.EXIT_FAILED if any(codes) else 0)


def _show_lines(view: _View) -> None:
    ready = False
    while len(view.cluster.ended()) < len(view.cluster.nodes):
        view.refresh(click.echo)
        if view.is_ready and not ready:
            ready = True
            click.echo(f"Ready: {view.cluster.clients}")
        time.sleep(_REFRESH_S if ready else 0.1)
    view.refresh(click.echo)


def _show_live(view: _View) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    with Live(console=console, refresh_per_second=8) as live:
        while len(view.cluster.ended()) < len(view.cluster.nodes):
            view.refresh(lambda line: console.print(Text.from_ansi(line)))
            live.update(_panel(view))
            time.sleep(_REFRESH_S if view.has_leader else 0.1)


def _panel(view: _View) -> Any:
    """Return the table, a line about the whole and what to type next."""
    from rich.console import Group
    from rich.text import Text

    table = terminal.rich_table(
        (*admin.STATUS_COLUMNS, "process"),
        view.rows(),
        title=f"raftkv in {view.cluster.directory}",
    )
    text, colour = admin.summary(view.statuses)
    lines = [Text(text, style=colour), Text("")]
    if view.has_leader:
        lines += [Text("  In another shell:", style="dim")]
        lines += [Text(f"    {hint}", style="cyan") for hint in _hints(view.cluster)]
    lines.append(Text("  Ctrl-C stops the cluster and keeps its data.", style="dim"))
    return Group(table, *lines)
