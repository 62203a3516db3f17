"""`raftkv completion`: the script with which a shell completes subcommands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_RAFTKV_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  raftkv completion bash > ~/.local/share/bash-completion/completions/raftkv
    zsh:   raftkv completion zsh > "${fpath[1]}/_raftkv"
    fish:  raftkv completion fish > ~/.config/fish/completions/raftkv.fish
    """
    kind = get_completion_class(shell)
    root = click.get_current_context().find_root().command
    assert kind is not None
    writer = kind(root, {}, "raftkv", _VARIABLE)
    click.echo(writer.source_template % writer.source_vars())
