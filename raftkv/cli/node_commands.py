"""Commands about one node's process and settings: start, init, config.

Owns how problems of a config are shown. What the settings are is in
raftkv.settings, what the files of a cluster look like in raftkv.cluster_files,
and what a node does in raftkv.node; none is imported before it is needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from raftkv.cli import terminal
from raftkv.errors import ConfigError

if TYPE_CHECKING:
    from raftkv.settings import LoadedConfig

_OVERRIDES = click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE",
    help="Override one setting; may be given again.",
)  # fmt: skip


def refuse(error: ConfigError) -> NoReturn:
    """Show every problem and end as a bad config does."""
    count = len(error.problems)
    title = "1 problem in the config:" if count == 1 else f"{count} problems in the config:"
    click.secho(title, fg="red", bold=True, err=True)
    for problem in error.problems:
        click.echo(f"  {problem}", err=True)
    raise SystemExit(terminal.EXIT_USAGE)


def _load(path: str, overrides: tuple[str, ...]) -> LoadedConfig:
    from raftkv.settings import load_config

    try:
        loaded = load_config(path, environment=os.environ, overrides=overrides)
    except ConfigError as error:
        refuse(error)
    for warning in loaded.warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)
    return loaded


def _check_working_directory(path: str, data_directory: str) -> None:
    """Refuse to begin a second, empty data directory because of where somebody stands.

    Relative paths start at the working directory. A node that is started again
    from another one would find nothing there and come up as new.
    """
    home = os.path.dirname(path)
    beside_the_file = os.path.join(home, data_directory)
    if os.path.isabs(data_directory) or os.path.exists(data_directory):
        return
    if os.path.exists(os.path.join(beside_the_file, "identity")):
        refuse(ConfigError([
            f"node.data_dir: {data_directory} starts at the working directory, and is not there; "
            f"the data of this node is in {beside_the_file}. "
            f"Start it with: cd {home} && raftkv start --config {os.path.basename(path)}"
        ]))  # fmt: skip


@click.command()
@click.option("--config", "-c", "path", required=True, metavar="FILE", help="Config of the node.")
@_OVERRIDES
def start(path: str, overrides: tuple[str, ...]) -> None:
    """Run one node in the foreground until SIGTERM or Ctrl-C.

    \b
    Exit codes:
      0  stopped as asked
      2  bad config; every problem is listed
      3  damaged data; file, position and what to do are said
      4  a port or the data directory is in use
      6  the disk failed, or an internal error
      7  removed from the cluster, or refused by it
    """
    loaded = _load(path, overrides)
    _check_working_directory(path, loaded.config.node.data_dir)
    from raftkv.node import run

    raise SystemExit(run(loaded.config))


@click.command()
@click.option("--nodes", type=click.IntRange(1, 15), default=3, show_default=True,
              metavar="N", help="How many nodes.")  # fmt: skip
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path),
              default=Path("cluster-configs"), show_default=True, metavar="DIR",
              help="Where the files go.")  # fmt: skip
@click.option("--base-port", type=int, default=7001, show_default=True, metavar="PORT",
              help="Client port of the first node.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace files that exist. A secret is kept.")
def init(nodes: int, directory: Path, base_port: int, force: bool) -> None:
    """Write node1.toml, node2.toml, ... and the secret of the peers."""
    from raftkv.cluster_files import write_cluster

    try:
        files = write_cluster(directory, nodes=nodes, base_port=base_port, overwrite=force)
    except ConfigError as error:
        refuse(error)
    for path in files.configs:
        click.echo(f"wrote {path}")
    click.echo(f"secret of the peers: {files.peer_secret}")
    for node_directory in files.used_data_directories:
        warning = f"{node_directory} holds data of an earlier node, which would be used"
        click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)
    click.echo(
        "\nStart each node from this directory, in which the paths of data and secret begin:"
    )
    click.echo(f"  raftkv start --config {files.configs[0]}")


@click.group()
def config() -> None:
    """Check or show the settings of a node."""


@config.command(short_help="List every problem of config FILES.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@_OVERRIDES
def check(files: tuple[str, ...], overrides: tuple[str, ...]) -> None:
    """Judge config FILES and list every problem; exit code 2 if there is one."""
    from raftkv.settings import load_config

    problems = []
    for path in files:
        try:
            loaded = load_config(path, environment=os.environ, overrides=overrides)
        except ConfigError as error:
            prefix = f"{path}: " if len(files) > 1 else ""
            problems += [
                problem if problem.startswith(path) else prefix + problem
                for problem in error.problems
            ]
            continue
        for warning in loaded.warnings:
            click.echo(f"{click.style('warning:', fg='yellow')} {path}: {warning}", err=True)
        click.echo(f"{path}: {click.style('ok', fg='green')}")
    if problems:
        refuse(ConfigError(problems))


@config.command()
@click.argument("file", required=False)
@click.option("--config", "-c", "path", metavar="FILE", help="The same as the argument.")
@_OVERRIDES
@click.option("--json", "json_output", is_flag=True, help="Write JSON.")
def show(file: str | None, path: str | None, overrides: tuple[str, ...], json_output: bool) -> None:
    """Show the effective settings of FILE and where each came from.

    Without FILE: every setting with its default and its allowed values.
    """
    chosen = file or path
    if chosen is None:
        _show_settings(json_output)
        return
    loaded = _load(chosen, overrides)
    if json_output:
        terminal.echo_json({
            value.key: {"value": _plain(value.value), "origin": value.origin}
            for value in loaded.values
        })  # fmt: skip
        return
    rows: list[list[terminal.Cell]] = [
        [value.key, _shown(value.value), (value.origin, "dim" if value.origin == "default" else "")]
        for value in loaded.values
    ]
    terminal.echo_table(("setting", "value", "from"), rows)


def _show_settings(json_output: bool) -> None:
    from raftkv.settings import MISSING, list_settings

    settings = list_settings()
    defaults = [None if one.default is MISSING else one.default for one in settings]
    if json_output:
        terminal.echo_json({
            one.key: {"default": _plain(default), "allowed": one.kind.allowed}
            for one, default in zip(settings, defaults, strict=True)
        })  # fmt: skip
        return
    rows: list[list[terminal.Cell]] = [
        [one.key, "(required)" if default is None else _shown(default), one.kind.allowed]
        for one, default in zip(settings, defaults, strict=True)
    ]
    terminal.echo_table(("setting", "default", "allowed"), rows)


def _plain(value: Any) -> Any:
    """Return a setting's value for JSON; a member becomes an object."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "peer"):
        return {"id": value.id, "client": value.client, "peer": value.peer}
    return value


def _shown(value: Any) -> str:
    """Return a setting's value as a person writes it."""
    if isinstance(value, tuple):
        return ", ".join(_shown(item) for item in value)
    if hasattr(value, "peer"):
        return f"{value.id} ({value.client})"
    return '""' if value == "" else str(value)
