from __future__ import annotations

import importlib
import re
import subprocess
import sys

import click
import pytest

import raftkv
from raftkv.cli import main
from tests.unit.cli.conftest import Run


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"raftkv {raftkv.__version__}\n"


def test_a_command_interrupted_while_it_is_loaded_has_done_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: str) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupt)
    result = run("import", "keys")
    assert (result.exit_code, result.stderr) == (1, "Error: interrupted; nothing was done\n")


@pytest.mark.parametrize("name", list(main._COMMANDS))
def test_every_command_can_be_had_and_explains_itself(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"raftkv {name}" in result.stdout


def test_the_help_lists_every_command(run: Run) -> None:
    listed = re.findall(r"^  ([a-z]+) {2,}", run("--help").stdout, re.MULTILINE)
    assert set(main._COMMANDS) <= set(listed)


def test_every_command_of_the_modules_is_listed() -> None:
    listed = {place for place, _, _ in main._COMMANDS.values()}
    for name in {place.partition(":")[0] for place in listed}:
        module = importlib.import_module(f"raftkv.cli.{name}")
        inner = {
            id(child)
            for value in vars(module).values()
            if isinstance(value, click.Group)
            for child in value.commands.values()
        }
        for attribute, value in vars(module).items():
            is_own = isinstance(value, click.Command) and value.callback is not None
            if is_own and id(value) not in inner:
                assert f"{name}:{attribute}" in listed


def test_an_unknown_command_is_a_usage_error_with_advice(run: Run) -> None:
    result = run("gett", "a")
    assert result.exit_code == 2
    assert "Did you mean 'get'?" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["get"], ["get", "a", "b"], ["set"], ["incrby", "a", "x"], ["get", "a", "--nodes", "x"],
        ["get", "a", "--deadline", "0"], ["completion", "tcsh"], ["mset", "a"],
    ],
)  # fmt: skip
def test_usage_errors_exit_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(("shell", "words"), [
    ("bash", "complete"), ("zsh", "#compdef raftkv"), ("fish", "complete --no-files"),
])  # fmt: skip
def test_completion_scripts(run: Run, shell: str, words: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert words in result.stdout
    assert "_RAFTKV_COMPLETE" in result.stdout


LOADED = "import sys; from raftkv.cli.main import main; sys.argv=['raftkv'] + {arguments};\n" \
    "try: main()\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--version"], ["hiredis", "rich", "asyncio", "raftkv.settings", "raftkv.client"]),
        (["--help"], ["hiredis", "rich", "asyncio", "raftkv.settings", "raftkv.client"]),
        (
            ["get", "a", "--nodes", "127.0.0.1:1", "--deadline", "0.01"],
            ["rich", "asyncio", "aiohttp", "prompt_toolkit", "msgspec", "raftkv.settings",
             "raftkv.node", "raftkv.server", "raftkv.engine", "pysyncobj"],
        ),
    ],
)  # fmt: skip
def test_a_command_imports_only_what_it_needs(arguments: list[str], unwanted: list[str]) -> None:
    program = LOADED.format(arguments=arguments)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    loaded = result.stderr.split()
    assert "raftkv.cli.main" in loaded
    assert not set(unwanted) & set(loaded)
