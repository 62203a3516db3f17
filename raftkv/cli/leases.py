"""`raftkv lease` and `raftkv lock`: leases by hand, and a command run under a lock.

Owns their options and help, and how the command under a lock ends; see cli.data for
how the others work.

Invariant: a lock is released only when its command has ended, and a signal that asks
this process to end ends the command first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType, TracebackType
from typing import Self

import click

from raftkv.cli import terminal
from raftkv.cli.options import Target, target_options
from raftkv.client.recipes.sync_recipes import Lock
from raftkv.errors import LeaseLostError, LockTimeoutError, OutcomeUnknownError, RaftKvError

# How shells say that a command was not found, or cannot be executed.
_EXIT_NOT_FOUND = 127
_EXIT_NOT_EXECUTABLE = 126
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
    when others held the lock as long as --wait says. Ctrl-C, SIGTERM and SIGHUP end COMMAND
    and release the lock.
    """
    with target.open() as client, _Stop() as stop:
        held = client.lock(name, ttl_s=ttl_s)
        try:
            if not held.acquire(wait_s=wait_s):
                raise LockTimeoutError(f"{name} is held by others")
            stop.at_once = False
            try:
                code = _run(words, held, stop)
            except OSError as error:
                is_missing = isinstance(error, FileNotFoundError)
                code = _EXIT_NOT_FOUND if is_missing else _EXIT_NOT_EXECUTABLE
                reason = RaftKvError(f"{words[0]}: {error.strerror or error}")
                terminal.echo_error(reason, as_json_line=target.json)
        finally:
            stop.at_once = False
            if held.lease is not None:
                try:
                    held.release()
                except LeaseLostError as error:
                    raise OutcomeUnknownError(f"the lock was lost while {words[0]} ran") from error
    sys.exit(code)


class _Stop:
    """What is done about signals that ask this process to end; use as a context manager.

    Attributes:
        at_once: End with `SystemExit` when a signal comes. Else it is only noted: an
            exception might lose the command that is just started.
        number: Of a signal that came, or None.
    """

    def __init__(self) -> None:
        self.at_once = True
        self.number: int | None = None

    def _heed(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if self.at_once:
            raise SystemExit(_exit_code_of_signal(number))

    def __enter__(self) -> Self:
        # What is ignored stays so: `nohup` wants it.
        self._previous = {
            number: signal.signal(number, self._heed)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def _run(words: tuple[str, ...], held: Lock, stop: _Stop) -> int:
    """Run the command until it ends, the lock is lost, or a signal comes; return its code.

    Raises:
        OSError: It could not be started.
    """
    environment = {**os.environ, TOKEN_VARIABLE: str(held.check())}
    process = subprocess.Popen(words, env=environment)
    try:
        while process.returncode is None and held.is_held and stop.number is None:
            try:
                process.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                continue
    finally:
        _end(process)
    if stop.number is not None:
        return _exit_code_of_signal(stop.number)
    code = process.returncode
    return code if code >= 0 else _exit_code_of_signal(-code)


def _exit_code_of_signal(number: int) -> int:
    """Return what shells say of a command that a signal ended."""
    return 128 + number


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command that still runs."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
