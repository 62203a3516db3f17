"""What the pages show is what one sees: their examples, run against a real cluster.

Only the ports differ. The two command lines that install are run by `.ci/run`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools import has_node_package, node_path, report_absence

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BASE_PORT = 25301
TIME_LIMIT_S = 60

pytestmark = pytest.mark.slow


def moved(text: str) -> str:
    """Give the ports of the README those of this test."""
    return re.sub(r"\b700([123])\b", lambda match: str(BASE_PORT - 1 + int(match[1])), text)


def environment() -> dict[str, str]:
    """A user's environment, with the package of this tree."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_")}
    nodes = ",".join(f"127.0.0.1:{BASE_PORT + number}" for number in range(3))
    return kept | node_path() | {"RAFTKV_NODES": nodes, "PYTHONPATH": str(ROOT)}


def run(command: list[str], directory: Path) -> str:
    result = subprocess.run(
        command,
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout.strip()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running local cluster, as `raftkv up` starts it; its working directory."""
    directory = tmp_path_factory.mktemp("readme")
    raftkv = [sys.executable, "-m", "raftkv"]
    place = ["--dir", str(directory / "cluster")]
    run([*raftkv, "up", "--detach", *place, "--base-port", str(BASE_PORT)], directory)
    yield directory
    run([*raftkv, "down", *place], directory)


def console_examples() -> list[tuple[str, str]]:
    """Each command of the console blocks with the output that is shown below it."""
    examples = []
    for block in re.findall(r"^```console\n(.*?)^```$", README, re.DOTALL | re.MULTILINE):
        for part in block.split("$ ")[1:]:
            command, _, output = part.partition("\n")
            examples.append((command, output.strip()))
    return examples


def test_the_commands_answer_as_shown(cluster: Path) -> None:
    examples = console_examples()
    assert len(examples) >= 4
    for command, shown in examples:
        words = moved(command).split()
        if words[0].endswith("raftkv"):
            words = [sys.executable, "-m", "raftkv", *words[1:]]
        elif shutil.which(words[0]) is None and os.environ.get("RAFTKV_REQUIRE_TOOLS") != "1":
            continue
        # redis-cli quotes texts in a terminal and not in a pipe.
        assert run(words, cluster) == shown.strip('"'), command


PAGES = ("README.md", "docs/quickstart.md", "docs/howto/connect-clients.md")


def examples(language: str) -> list[str]:
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in PAGES]
    block = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [program for text in texts for program in block.findall(text)]


@pytest.mark.parametrize("program", examples("python"))
def test_the_python_examples_print_the_value(cluster: Path, program: str) -> None:
    for library in re.findall(r"^(?:from|import) (\w+)", program, re.MULTILINE):
        if importlib.util.find_spec(library) is None:
            report_absence(library)
    assert run([sys.executable, "-c", moved(program)], cluster) == "hello"


@pytest.mark.parametrize("program", examples("js"))
def test_the_examples_for_node_print_the_value(cluster: Path, node: str, program: str) -> None:
    for library in re.findall(r"require\('(\w+)'\)", program):
        if not has_node_package(library):
            report_absence(f"the package {library} of Node.js")
    assert run([node, "-e", moved(program)], cluster) == "hello"
