"""`raftkv lease` and `raftkv lock`: leases by hand, and a command run under a lock.

Owns their options and help; see cli.data for how they work.
"""

from __future__ import annotations

import os
import subprocess
import sys

import click

from raftkv.cli.options import Target, target_options
from raftkv.errors import LeaseLostError, LockTimeoutError, OutcomeUnknownError

# Given to the command that runs under a lock.
TOKEN_VARIABLE = "RAFTKV_LOCK_TOKEN"
# How often a running command is looked at.
_LOOK_S = 0.05
# A command whose lock was lost has so long to end by itself.
_GRACE_S = 2.0


@click.group()
def lease() -> None:
    """Grant, renew, revoke and list leases."""


@lease.command()
@click.argument("ttl_ms", type=int)
@click.option("--id", "lease_id", type=int, metavar="ID", help="Instead of a random number.")
@target_options
def grant(ttl_ms: int, lease_id: int | None, target: Target) -> None:
    """Grant a lease that lives for TTL_MS milliseconds, and print its id."""
    with target.open() as client:
        target.show(client.lease_grant(ttl_ms, lease_id=lease_id))


@lease.command()
@click.argument("lease_id", type=int, metavar="ID")
@target_options
def keepalive(lease_id: int, target: Target) -> None:
    """Renew lease ID once, and print the milliseconds it has to live."""
    with target.open() as client:
        target.show(client.lease_keepalive(lease_id))


@lease.command()
@click.argument("lease_id", type=int, metavar="ID")
@target_options
def revoke(lease_id: int, target: Target) -> None:
    """End lease ID with its keys, and print how many these are."""
    with target.open() as client:
        target.show(client.lease_revoke(lease_id))


@lease.command()
@click.argument("lease_id", type=int, metavar="ID")
@click.option("--keys", is_flag=True, help="With the keys bound to it.")
@target_options
def ttl(lease_id: int, keys: bool, target: Target) -> None:
    """Print what there is to know about lease ID."""
    with target.open() as client:
        target.show(client.lease_ttl(lease_id, keys=keys))


@lease.command("list")
@target_options
def list_(target: Target) -> None:
    """Print the ids of all leases."""
    found: list[int] = []
    with target.open() as client:
        while page := client.lease_list(after=found[-1] if found else None):
            found += page
    target.show(found)


@click.command()
@click.argument("name")
@click.argument("words", nargs=-1, required=True, metavar="-- COMMAND [ARGUMENT]...")
@click.option(
    "--ttl", "ttl_s", type=click.FloatRange(min=0.1), default=10.0, metavar="SECONDS",
    show_default=True, help="Others may have it so long after this process died.",
)  # fmt: skip
@click.option(
    "--wait", "wait_s", type=click.FloatRange(min=0), metavar="SECONDS",
    help="Give up when others hold it so long; 0 to try once.",
)  # fmt: skip
@target_options
def lock(
    name: str, words: tuple[str, ...], ttl_s: float, wait_s: float | None, target: Target
) -> None:
    """Run COMMAND while this process holds the lock NAME.

    COMMAND finds the fencing token in RAFTKV_LOCK_TOKEN, and its exit code becomes that
    of this command. It is ended when the lock is lost; the exit code is 5 then. It is 1
    when others held the lock as long as --wait says.
    """
    with target.open() as client:
        held = client.lock(name, ttl_s=ttl_s)
        if not held.acquire(wait_s=wait_s):
            raise LockTimeoutError(f"{name} is held by others")
        environment = {**os.environ, TOKEN_VARIABLE: str(held.check())}
        process = subprocess.Popen(words, env=environment)
        try:
            code = None
            while code is None and held.is_held:
                try:
                    code = process.wait(_LOOK_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            _end(process)
        try:
            held.release()
        except LeaseLostError as error:
            raise OutcomeUnknownError(f"the lock was lost while {words[0]} ran") from error
    sys.exit(code)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command that still runs."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
