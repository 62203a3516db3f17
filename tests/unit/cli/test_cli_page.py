"""docs/reference/cli.md: its examples executed, its lists complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from raftkv.cli import main
from tests.unit.client.fake_cluster import FakeCluster

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "cli.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_examples_show_what_happens(cluster: FakeCluster) -> None:
    environment = {"RAFTKV_NODES": ",".join(cluster.addresses)}
    count = 0
    for block in re.findall(r"^```console\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        for line, expected in re.findall(r"^\$ raftkv (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            result = CliRunner().invoke(main.command, shlex.split(line), env=environment)
            output = result.output
            for number, node in enumerate(cluster.nodes, 1):
                # Columns are as wide as the ports of the test.
                output = output.replace(node.address, f"127.0.0.1:700{number}")
            squeezed = [re.sub(r" +", " ", text).rstrip() for text in (output, expected)]
            assert squeezed[0] == squeezed[1], line
            count += 1
    assert count == TEXT.count("\n$ raftkv ")


def all_commands() -> list[tuple[str, click.Command]]:
    context = click.Context(main.command)
    found: list[tuple[str, click.Command]] = []
    for name in main.command.list_commands(context):
        command = main.command.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [(f"{name} {child}", one) for child, one in command.commands.items()]
        else:
            found.append((name, command))
    return found


@pytest.mark.parametrize(("name", "command"), all_commands(), ids=lambda value: str(value))
def test_every_command_and_option_is_on_the_page(name: str, command: click.Command) -> None:
    assert re.search(rf"(raftkv |`){name}\b", TEXT), name
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            for option in parameter.opts:
                assert re.search(rf"[`\[\s]{option}\b", TEXT), f"{name} {option}"
