"""The files of the repository and the modules of the package, for the house tests."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "raftkv"

# Made by tools, installers and running clusters; never part of the tree.
_FOREIGN = {
    ".git", ".venv", "venv", "build", "dist", "data", "raftkv-data", "htmlcov", "__pycache__",
    ".hypothesis", ".import_linter_cache", ".mypy_cache", ".pytest_cache", ".ruff_cache",
    "node_modules",
}  # fmt: skip


@cache
def tracked_files() -> tuple[Path, ...]:
    """Return the files git knows, or everything that looks like a source where there is no git."""
    if not (ROOT / ".git").exists():
        return tuple(_walk(ROOT))
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30
        )
    except (OSError, subprocess.CalledProcessError):
        return tuple(_walk(ROOT))
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return tuple(path for path in paths if path.is_file())


def _walk(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.name in _FOREIGN or path.name.endswith(".egg-info"):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


@cache
def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def parsed(path: Path) -> ast.Module:
    """Parse one Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_names(path: Path) -> set[str]:
    """Return the dotted names that a file imports, wherever in the file it does so.

    `from a import b` counts as `a.b` if that is a module, else as `a`.
    """
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name in modules() else node.module)
    return names


@cache
def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
