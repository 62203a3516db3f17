"""Commands on whole keys: how long they live, what there is, other names.

Owns their options and help; see cli.data for how they work.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any

import click

from raftkv.cli import terminal
from raftkv.cli.options import NUMBERS, Target, target_options


def _conditions(function: Any) -> Any:
    """Give a command the conditions of EXPIRE."""
    for name, line in (
        ("lt", "Only if that makes it live shorter."),
        ("gt", "Only if that makes it live longer."),
        ("xx", "Only if it has a time to live."),
        ("nx", "Only if it has no time to live."),
    ):
        function = click.option(f"--{name}", is_flag=True, help=line)(function)
    return function


@click.command(context_settings=NUMBERS)
@click.argument("key")
@click.argument("seconds", type=int)
@_conditions
@target_options
def expire(key: str, seconds: int, target: Target, **conditions: bool) -> None:
    """Let KEY die after SECONDS; prints 1, or 0 where nothing was changed."""
    with target.open() as client:
        target.show(int(client.expire(key, seconds, **conditions)))


@click.command(context_settings=NUMBERS)
@click.argument("key")
@click.argument("milliseconds", type=int)
@_conditions
@target_options
def pexpire(key: str, milliseconds: int, target: Target, **conditions: bool) -> None:
    """Let KEY die after MILLISECONDS; prints 1, or 0 where nothing was changed."""
    with target.open() as client:
        target.show(int(client.pexpire(key, milliseconds, **conditions)))


@click.command()
@click.argument("key")
@target_options
def ttl(key: str, target: Target) -> None:
    """Print the seconds KEY has to live; -1 for ever, -2 if it is missing."""
    with target.open() as client:
        target.show(client.ttl(key))


@click.command()
@click.argument("key")
@target_options
def pttl(key: str, target: Target) -> None:
    """Print the milliseconds KEY has to live; -1 for ever, -2 if it is missing."""
    with target.open() as client:
        target.show(client.pttl(key))


@click.command()
@click.argument("key")
@target_options
def persist(key: str, target: Target) -> None:
    """Let KEY live for ever; prints 1, or 0 where nothing was changed."""
    with target.open() as client:
        target.show(int(client.persist(key)))


@click.command("type")
@click.argument("key")
@target_options
def type_(key: str, target: Target) -> None:
    """Print the kind of value KEY has, or `none`."""
    with target.open() as client:
        target.show(client.type(key))


@click.command()
@click.option("--match", metavar="PATTERN", help="Only keys like this, such as user:*.")
@click.option("--count", type=click.IntRange(min=1), default=1000, metavar="N",
              show_default=True, help="Keys to look at a page.")  # fmt: skip
@click.option("--type", "kind", metavar="KIND", help="Only keys with this kind of value.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after this many.")
@target_options
def scan(
    match: str | None, count: int, kind: str | None, limit: int | None, target: Target
) -> None:
    """Print all keys, one a line, page by page.

    A key that exists all the time is printed at least once.
    """
    with target.open() as client:
        for number, key in enumerate(client.scan_iter(match=match, count=count, kind=kind), 1):
            target.show(key)
            if number == limit:
                break


@click.command()
@click.argument("pattern", default="*")
@target_options
def keys(pattern: str, target: Target) -> None:
    """Print all keys like PATTERN, one a line; with --json, a list."""
    with target.open() as client:
        target.show(client.keys(pattern))


@click.command("range")
@click.argument("start", default="")
@click.argument("end", default="")
@click.option("--prefix", help="All keys that begin with this, instead of START and END.")
@click.option("--rev", type=int, metavar="REVISION", help="As it was behind this revision.")
@click.option("--limit", type=click.IntRange(1), help="Most keys to print.")
@click.option("--values", is_flag=True, help="Print values and revisions too.")
@click.option("--count", is_flag=True, help="Print only how many there are.")
@target_options
def range_(
    start: str, end: str, prefix: str | None, rev: int | None, limit: int | None,
    values: bool, count: bool, target: Target,
) -> None:  # fmt: skip
    """Print keys in order, from START up to but without END, all as of one revision.

    One a line, with --values key and value in turn; with --json, a list.
    """
    if prefix is not None and (start or end):
        raise click.UsageError("--prefix goes without START and END.")
    with target.open() as client:
        if count:
            target.show(client.range_count(start, end, prefix=prefix, revision=rev))
            return
        found = client.range_iter(start, end, prefix=prefix, revision=rev, keys_only=not values)
        items = list(islice(found, limit))
    if values and not target.json:
        items = [one for item in items for one in (item["key"], item["value"])]
    target.show(items)


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("--nx", is_flag=True, help="Only if nothing has the name DESTINATION.")
@target_options
def rename(source: str, destination: str, nx: bool, target: Target) -> None:
    """Give the key SOURCE the name DESTINATION."""
    with target.open() as client:
        if nx:
            target.show(int(client.renamenx(source, destination)))
        else:
            client.rename(source, destination)
            target.show("OK")


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("--replace", is_flag=True, help="Also if DESTINATION exists.")
@target_options
def copy(source: str, destination: str, replace: bool, target: Target) -> None:
    """Copy SOURCE to DESTINATION; prints 1, or 0 where nothing was copied."""
    with target.open() as client:
        target.show(int(client.copy(source, destination, replace=replace)))


@click.command()
@target_options
def dbsize(target: Target) -> None:
    """Print the number of keys."""
    with target.open() as client:
        target.show(client.dbsize())


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@target_options
def flushall(yes: bool, target: Target) -> None:
    """Delete all keys. Asks first in a terminal."""
    if not yes and terminal.is_terminal() and sys.stdin.isatty():
        click.confirm("Delete all keys of the cluster?", abort=True)
    with target.open() as client:
        client.flushall()
    target.show("OK")
