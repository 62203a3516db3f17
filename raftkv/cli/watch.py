"""`raftkv watch`: print changes as they happen, until Ctrl-C.

Owns its options and how a change looks. What happens when nodes are lost is the
business of the client's watch.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from raftkv.cli import terminal
from raftkv.cli.options import Target, target_options
from raftkv.client.sync_watch import Watch
from raftkv.client.watching import Change, WatchEvent

_COLOURS = {"put": "green", "delete": "red", "expire": "yellow"}


@click.command()
@click.argument("key")
@click.option("--prefix", is_flag=True, help="All keys that begin with KEY; '' for every key.")
@click.option("--from", "from_revision", type=click.IntRange(min=1), metavar="REVISION",
              help="Begin with this revision, as far back as there is history.")  # fmt: skip
@click.option("--prev", is_flag=True, help="Show the value before, too.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End behind N changes.")
@target_options
def watch(
    key: str,
    prefix: bool,
    from_revision: int | None,
    prev: bool,
    count: int | None,
    target: Target,
) -> None:
    """Print every change of KEY, one a line, until Ctrl-C.

    A line has the revision, what happened, the key and the new value of a string. No
    change is left out and none comes twice, whichever nodes are lost meanwhile. Exit
    code 1 when changes were missed because they are no longer in the history.
    """
    with (
        target.open() as client,
        client.watch(
            None if prefix else key,
            prefix=key if prefix else None,
            from_revision=from_revision,
            prev=prev,
        ) as changes,
    ):
        try:
            _print(changes, count, target)
        except KeyboardInterrupt:
            return


def _print(changes: Watch[bytes], count: int | None, target: Target) -> None:
    for number, change in enumerate(changes, 1):
        for event in change.events:
            if target.json:
                terminal.echo_json(_as_object(change, event))
            else:
                _echo(change, event)
        sys.stdout.flush()
        if number == count:
            return


def _as_object(change: Change[bytes], event: WatchEvent[bytes]) -> dict[str, Any]:
    return {"revision": change.revision, **event._asdict()}


def _echo(change: Change[bytes], event: WatchEvent[bytes]) -> None:
    words = [
        b"%d" % change.revision,
        click.style(event.kind, fg=_COLOURS[event.kind]).encode()
        if terminal.is_terminal()
        else event.kind.encode(),
        event.key,
    ]
    if event.kind == "put":
        shown = f"({event.type})".encode()
        words.append(event.value if event.value is not None else shown)
    if event.previous is not None:
        words += (b"<-", event.previous)
    terminal.echo_bytes(b" ".join(words))
