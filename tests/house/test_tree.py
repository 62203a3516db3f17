"""The shape of the tree, and marks of unfinished work or of one person's machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.tree import PACKAGE, ROOT, modules, parsed, tracked_files

TOP_LEVEL = {"LICENSE", "README.md", "cluster-configs", "docs", "pyproject.toml", "raftkv", "tests"}
TEXT_SUFFIXES = {".cfg", ".js", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}
# A home directory, a scratch directory or a drive of whoever wrote the line.
MACHINE_PATH = re.compile(r"/(home|Users|root|work|tmp|private)/[\w.]|\b[A-Z]:\\\\?Users")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\bNotImplementedError\b")


def test_the_top_level_is_what_the_manual_says() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked_files()}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL


def text_files() -> list[Path]:
    this = Path(__file__).resolve()
    return [path for path in tracked_files() if path.suffix in TEXT_SUFFIXES and path != this]


def test_no_file_names_a_place_on_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


def test_nothing_is_left_for_later() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if UNFINISHED.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(parsed(modules()[module]))


@pytest.mark.parametrize("module", sorted(modules()))
def test_the_tests_that_a_module_names_are_there(module: str) -> None:
    text = ast.get_docstring(parsed(modules()[module])) or ""
    for name in re.findall(r"tests/[\w/]+\.py", text):
        assert (ROOT / name).is_file(), name


def test_the_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_no_secret_is_tracked() -> None:
    assert not [path for path in tracked_files() if path.suffix == ".secret"]


def test_tests_use_fakes_not_mocks() -> None:
    for path in tracked_files():
        if path.is_relative_to(ROOT / "tests" / "unit") and path.suffix == ".py":
            assert not re.search(r"^\s*(import|from) +unittest", path.read_text(), re.MULTILINE), (
                path
            )
