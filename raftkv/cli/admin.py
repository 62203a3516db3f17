"""Commands about the cluster: status, members and their changes, INFO, PING.

Owns the columns of their tables. `status` asks every node by itself and at the
same time, so that one that hangs does not hide the others. A change of the
members that cannot be made yet (a learner still catches up, another change is
under way) is asked for again until the deadline.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click

from raftkv.cli import terminal
from raftkv.cli.options import Target, target_options
from raftkv.cli.terminal import Cell
from raftkv.client.status import NodeStatus, lag_entries, members_from_reply, merge_statuses
from raftkv.client.sync_client import Client
from raftkv.errors import RaftKvError

STATUS_COLUMNS = ("node", "role", "term", "commit", "applied", "lag", "address")
_THREADS_MAX = 16


def ask_all(client: Client[bytes]) -> list[NodeStatus]:
    """Ask every known node about itself, all at once."""
    statuses: dict[str, NodeStatus] = {}
    with ThreadPoolExecutor(max_workers=_THREADS_MAX) as threads:
        # A node that answers may name further members.
        while missing := [address for address in client.addresses if address not in statuses]:
            statuses.update(zip(missing, threads.map(client.node_status, missing), strict=True))
    return merge_statuses(list(statuses.values()))


def status_rows(statuses: list[NodeStatus]) -> list[list[Cell]]:
    """Return the rows of the table, one a node."""
    rows: list[list[Cell]] = []
    for status in statuses:
        if status.error:
            rows.append(["?", ("down", "red"), "-", "-", "-", "-", status.address])
            continue
        lag = lag_entries(status, statuses)
        role: Cell = (status.role, terminal.ROLE_COLOURS.get(status.role, ""))
        rows.append([
            status.node_id, role, str(status.term), str(status.commit_index),
            str(status.applied_index), "-" if lag is None else str(lag), status.address,
        ])  # fmt: skip
    return rows


def status_json(statuses: list[NodeStatus]) -> list[dict[str, Any]]:
    """Return the statuses for a program."""
    return [
        {
            "node": status.node_id or None,
            "address": status.address,
            "role": status.role or None,
            "term": status.term,
            "commit": status.commit_index,
            "applied": status.applied_index,
            "last": status.last_index,
            "lag": lag_entries(status, statuses),
            "leader": status.leader_id or None,
            "error": status.error or None,
            "fields": status.fields,
        }
        for status in statuses
    ]


def summary(statuses: list[NodeStatus]) -> tuple[str, str]:
    """Return one line that says how the cluster is."""
    up = [status for status in statuses if not status.error]
    leaders = [status for status in up if status.is_leader]
    count = f"{len(up)} of {terminal.count_of(len(statuses), 'node')} answer"
    if len(statuses) == 1:
        count += "s"
    if not up:
        return ("no node answers", "red")
    if not leaders:
        waiting_for = [str(status.fields.get("waiting_for") or "").split(",") for status in up]
        awaited = {name for names in waiting_for for name in names} - {""}
        founding = f"; the first election waits for {', '.join(sorted(awaited))}" if awaited else ""
        return (f"no leader{founding}; {count}", "red")
    leader = max(leaders, key=lambda status: status.term)
    line = f"{leader.node_id} leads at {leader.address}; {count}"
    return (line, "green" if len(up) == len(statuses) else "yellow")


@click.command()
@click.option("--watch", "-w", is_flag=True, help="Refresh until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(min=0.1), default=1.0, metavar="SECONDS",
              show_default=True, help="Time between two rounds of --watch.")  # fmt: skip
@target_options
def status(watch: bool, interval: float, target: Target) -> None:
    """Show role, term, log and lag of every node.

    Asks the given nodes and the members they name. Exit code 1 when none answers.
    """
    with target.open() as client:
        if watch:
            with contextlib.suppress(KeyboardInterrupt):
                _watch(client, interval, target)
            return
        statuses = ask_all(client)
        _show_status(statuses, target)
        if all(one.error for one in statuses):
            raise SystemExit(terminal.EXIT_FAILED)


def _show_status(statuses: list[NodeStatus], target: Target) -> None:
    if target.json:
        terminal.echo_json(status_json(statuses))
        return
    terminal.echo_table(STATUS_COLUMNS, status_rows(statuses))
    text, colour = summary(statuses)
    click.secho(text, fg=colour)


def _watch(client: Client[bytes], interval_s: float, target: Target) -> None:
    """Show the table again and again: in place in a terminal, below each other elsewhere."""
    if target.json or not terminal.is_terminal():
        while True:
            _show_status(ask_all(client), target)
            time.sleep(interval_s)
    from rich.live import Live  # costs more than a single status takes

    with Live(refresh_per_second=4, screen=False) as live:
        while True:
            live.update(status_panel(ask_all(client)))
            time.sleep(interval_s)


def status_panel(statuses: list[NodeStatus]) -> Any:
    """Return table and summary for a live view."""
    from rich.console import Group
    from rich.text import Text

    text, colour = summary(statuses)
    table = terminal.rich_table(STATUS_COLUMNS, status_rows(statuses))
    return Group(table, Text(text, style=colour))


@click.group()
def member() -> None:
    """List and change the members of the cluster."""


@member.command("list")
@target_options
def list_members(target: Target) -> None:
    """List the members with their addresses."""
    with target.open() as client:
        members = members_from_reply(client.execute("RAFT", "MEMBERS"))
    if target.json:
        terminal.echo_json(members)
        return
    columns = list(dict.fromkeys(name for one in members for name in one if name != "disk_id"))
    rows = [[_member_cell(name, one.get(name)) for name in columns] for one in members]
    terminal.echo_table([name.replace("_", " ") for name in columns], rows)


def _change(target: Target, kind: str, node: str, *addresses: str, done: str) -> None:
    """Ask the leader for one change and say what it came to."""
    with target.open() as client:
        client.execute("RAFT", "MEMBER", kind, node, *addresses)
    if target.json:
        terminal.echo_json({"member": node, "change": kind, "done": True})
    else:
        click.echo(done)


@member.command("add")
@click.argument("node")
@click.argument("client")
@click.argument("peer")
@target_options
def add_member(node: str, client: str, peer: str, target: Target) -> None:
    """Add NODE as a learner: it gets the data and does not vote.

    CLIENT and PEER are its advertised HOST:PORT for clients and for other nodes.
    """
    done = f"{node} is a learner now; let it vote with `raftkv member promote {node}`"
    _change(target, "add", node, client, peer, done=done)


@member.command("promote")
@click.argument("node")
@target_options
def promote_member(node: str, target: Target) -> None:
    """Let the learner NODE vote; waits until it has caught up, or the deadline."""
    _change(target, "promote", node, done=f"{node} votes now")


@member.command("demote")
@click.argument("node")
@target_options
def demote_member(node: str, target: Target) -> None:
    """Make the voter NODE a learner."""
    _change(target, "demote", node, done=f"{node} is a learner now")


@member.command("remove")
@click.argument("node")
@target_options
def remove_member(node: str, target: Target) -> None:
    """Remove NODE; its process ends with exit code 7."""
    _change(target, "remove", node, done=f"{node} is no member any more")


@member.command("move")
@click.argument("node")
@click.argument("client")
@click.argument("peer")
@target_options
def move_member(node: str, client: str, peer: str, target: Target) -> None:
    """Change the advertised addresses of NODE to CLIENT and PEER."""
    _change(target, "move", node, client, peer, done=f"{node} has new addresses")


@click.command()
@click.argument("node", required=False)
@target_options
def transfer(node: str | None, target: Target) -> None:
    """Hand leadership over to NODE, or to the most advanced voter."""
    with target.open() as client:
        leader = client.execute("RAFT", "TRANSFER", *([node] if node else []))
    name = leader.decode() if isinstance(leader, bytes) else str(leader)
    if target.json:
        terminal.echo_json({"leader": name})
    else:
        click.echo(f"{name} leads now")


def _member_cell(name: str, value: Any) -> Cell:
    """Return what a table shows of one field; flags become yes and no."""
    if name in ("voter", "leader", "connected") and value is not None:
        return ("yes", "green") if int(value) else "no"
    return "-" if value in (None, "") else str(value)


@click.command()
@click.argument("section", required=False)
@target_options
def info(section: str | None, target: Target) -> None:
    """Show what a node reports of itself; SECTION is one of INFO's, such as raft."""
    with target.open() as client:
        target.show(client.info(section))


@click.command()
@target_options
def ping(target: Target) -> None:
    """Print PONG when a node answers."""
    with target.open() as client:
        try:
            target.show(client.ping())
        except RaftKvError as error:
            target.fail(error)
