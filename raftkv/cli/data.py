"""Commands on values: get, set, del and their kin, and `exec` for anything else.

Owns their options and help. Each opens a client, calls the method of the same
name and writes the result; what is sent and retried is the client's business.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from raftkv.cli import terminal
from raftkv.cli.options import NUMBERS, Target, target_options
from raftkv.client.protocol import encode_text
from raftkv.errors import RaftKvError


@click.command()
@click.argument("key")
@click.option("--rev", type=int, metavar="REVISION", help="As it was behind this revision.")
@target_options
def get(key: str, rev: int | None, target: Target) -> None:
    """Print the value of KEY.

    A missing key is `(nil)` in a terminal, an empty line in a pipe and `null`
    with --json. With --rev it may be of any type.
    """
    with target.open() as client:
        if rev is None:
            target.show(client.get(key))
            return
        entry = client.get_revision(key, rev)
        target.show(None if entry is None else entry["value"])


@click.command("set")
@click.argument("key")
@click.argument("value", required=False)
@click.option("--ex", type=int, metavar="SECONDS", help="Time to live.")
@click.option("--px", type=int, metavar="MILLISECONDS", help="Time to live.")
@click.option("--exat", type=int, metavar="UNIX-SECONDS", help="Time of death.")
@click.option("--pxat", type=int, metavar="UNIX-MILLISECONDS", help="Time of death.")
@click.option("--nx", is_flag=True, help="Only if KEY does not exist.")
@click.option("--xx", is_flag=True, help="Only if KEY exists.")
@click.option("--keepttl", is_flag=True, help="Keep the time to live.")
@click.option("--get", "wants_old", is_flag=True, help="Print the value before.")
@target_options
def set_(key: str, value: str | None, wants_old: bool, target: Target, **options: Any) -> None:
    """Set KEY to VALUE; without VALUE, to what standard input holds.

    Exit code 1 when --nx or --xx kept it from being set.
    """
    data = encode_text(value) if value is not None else _read_input()
    with target.open() as client:
        if wants_old:
            target.show(client.set_get(key, data, **options))
        elif client.set(key, data, **options):
            target.show("OK")
        else:
            reason = "exists" if options["nx"] else "does not exist"
            target.fail(RaftKvError(f"not set: the key {reason}"))


def _read_input() -> bytes:
    """Return what a pipe holds."""
    if sys.stdin.isatty():
        raise click.UsageError("VALUE is missing, and standard input is a terminal.")
    return sys.stdin.buffer.read()


@click.command("del")
@click.argument("keys", nargs=-1, required=True)
@target_options
def del_(keys: tuple[str, ...], target: Target) -> None:
    """Delete KEYS and print how many existed."""
    with target.open() as client:
        target.show(client.delete(*keys))


@click.command()
@click.argument("keys", nargs=-1, required=True)
@target_options
def exists(keys: tuple[str, ...], target: Target) -> None:
    """Print how many of KEYS exist."""
    with target.open() as client:
        target.show(client.exists(*keys))


@click.command()
@click.argument("keys", nargs=-1, required=True)
@target_options
def mget(keys: tuple[str, ...], target: Target) -> None:
    """Print the values of KEYS, one a line; with --json, an object."""
    with target.open() as client:
        values = client.mget(*keys)
    target.show(dict(zip(keys, values, strict=True)) if target.json else values)


@click.command()
@click.argument("pairs", nargs=-1, required=True, metavar="KEY VALUE [KEY VALUE]...")
@target_options
def mset(pairs: tuple[str, ...], target: Target) -> None:
    """Set several keys at one moment."""
    if len(pairs) % 2:
        raise click.UsageError(f"The key {pairs[-1]!r} has no value.")
    with target.open() as client:
        client.mset(dict(zip(pairs[::2], pairs[1::2], strict=True)))
    target.show("OK")


@click.command()
@click.argument("key")
@target_options
def getdel(key: str, target: Target) -> None:
    """Print the value of KEY and delete it."""
    with target.open() as client:
        target.show(client.getdel(key))


@click.command()
@click.argument("key")
@click.argument("value")
@target_options
def append(key: str, value: str, target: Target) -> None:
    """Append VALUE to KEY and print the size in bytes."""
    with target.open() as client:
        target.show(client.append(key, value))


@click.command()
@click.argument("key")
@target_options
def strlen(key: str, target: Target) -> None:
    """Print the size of the value of KEY in bytes."""
    with target.open() as client:
        target.show(client.strlen(key))


@click.command(context_settings=NUMBERS)
@click.argument("key")
@click.argument("first", type=int)
@click.argument("last", type=int)
@target_options
def getrange(key: str, first: int, last: int, target: Target) -> None:
    """Print the bytes of KEY from FIRST to LAST, both inclusive; negative from the end."""
    with target.open() as client:
        target.show(client.getrange(key, first, last))


@click.command(context_settings=NUMBERS)
@click.argument("key")
@click.argument("position", type=int)
@click.argument("value")
@target_options
def setrange(key: str, position: int, value: str, target: Target) -> None:
    """Overwrite KEY from POSITION on and print the size in bytes."""
    with target.open() as client:
        target.show(client.setrange(key, position, value))


@click.command()
@click.argument("key")
@target_options
def incr(key: str, target: Target) -> None:
    """Add one to KEY and print it."""
    with target.open() as client:
        target.show(client.incr(key))


@click.command()
@click.argument("key")
@target_options
def decr(key: str, target: Target) -> None:
    """Subtract one from KEY and print it."""
    with target.open() as client:
        target.show(client.decr(key))


@click.command(context_settings=NUMBERS)
@click.argument("key")
@click.argument("amount", type=int)
@target_options
def incrby(key: str, amount: int, target: Target) -> None:
    """Add AMOUNT to KEY and print it."""
    with target.open() as client:
        target.show(client.incrby(key, amount))


@click.command(context_settings=NUMBERS)
@click.argument("key")
@click.argument("amount", type=int)
@target_options
def decrby(key: str, amount: int, target: Target) -> None:
    """Subtract AMOUNT from KEY and print it."""
    with target.open() as client:
        target.show(client.decrby(key, amount))


@click.command(context_settings=NUMBERS)
@click.argument("key")
@click.argument("amount")
@target_options
def incrbyfloat(key: str, amount: str, target: Target) -> None:
    """Add the decimal number AMOUNT to KEY and print it."""
    with target.open() as client:
        # The text of the reply, because a float would round what the cluster keeps.
        target.show(client.execute("INCRBYFLOAT", key, amount))


@click.command("exec", context_settings=NUMBERS)
@click.argument("words", nargs=-1, required=True, metavar="COMMAND [ARGUMENT]...")
@target_options
def exec_(words: tuple[str, ...], target: Target) -> None:
    """Send any command: `raftkv exec -- SET key value EX 60`."""
    from raftkv.cli.replies import render  # only here

    with target.open() as client:
        reply = client.execute(*words)
    if target.json or not terminal.is_terminal():
        target.show(reply)
    else:
        click.echo(render(reply, command=words[0]))
