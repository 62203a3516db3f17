"""Options that all commands share which talk to a cluster, and the way they end.

Owns `--nodes`, `--json` and `--deadline`, the making of the client from them,
and the turning of errors into exit codes. A command receives a `Target`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import click

from raftkv.cli import terminal
from raftkv.client.policy import DEADLINE_S_DEFAULT
from raftkv.client.protocol import parse_addresses
from raftkv.client.sync_client import Client
from raftkv.errors import IndefiniteError, RaftKvError

NODES_DEFAULT = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003"
# A person at a terminal should not wait for a cluster that is not there.
REACH_S_MAX = 2.0
# Numbers such as -5 are arguments of these commands, not options.
NUMBERS = {"ignore_unknown_options": True}

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The cluster a command talks to, and how its results are written."""

    addresses: tuple[str, ...]
    json: bool
    deadline_s: float

    def open(self, *, keep_state: bool = False, exactly_once: bool = False) -> Client[bytes]:
        """Return a client of the cluster.

        Args:
            keep_state: See `Client`.
            exactly_once: For many writes. One command is not worth a session, and exit
                code 5 tells of what is lost.
        """
        return Client(
            self.addresses,
            deadline_s=self.deadline_s,
            reach_s_max=REACH_S_MAX,
            keep_state=keep_state,
            exactly_once=exactly_once,
        )

    def show(self, value: Any) -> None:
        """Write a result."""
        if self.json:
            terminal.echo_json(value)
        else:
            terminal.echo_value(value)

    def fail(self, error: BaseException) -> NoReturn:
        """Say why a command failed and end."""
        terminal.echo_error(error, as_json_line=self.json)
        raise SystemExit(terminal.exit_code_of(error))


def _read_nodes(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    try:
        return parse_addresses(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def target_options(function: Function) -> Function:
    """Give a command the shared options; it receives a `Target` as `target`."""

    @click.option(
        "--nodes", "-n", envvar="RAFTKV_NODES", default=NODES_DEFAULT, callback=_read_nodes,
        metavar="HOST:PORT,...", show_default="the local cluster: 7001, 7002, 7003",
        help="Some nodes of the cluster; also RAFTKV_NODES.",
    )  # fmt: skip
    @click.option("--json", "json_output", is_flag=True, help="Write JSON, one value a line.")
    @click.option(
        "--deadline", type=click.FloatRange(min=0.001), default=DEADLINE_S_DEFAULT,
        metavar="SECONDS", show_default=True, help="Give up after this time.",
    )  # fmt: skip
    @functools.wraps(function)
    def run(
        *arguments: Any, nodes: tuple[str, ...], json_output: bool, deadline: float, **options: Any
    ) -> Any:
        target = Target(addresses=nodes, json=json_output, deadline_s=deadline)
        try:
            return function(*arguments, target=target, **options)
        except RaftKvError as error:
            target.fail(error)
        except KeyboardInterrupt:
            target.fail(IndefiniteError("interrupted"))

    wrapped: Any = run
    result: Function = wrapped
    return result
