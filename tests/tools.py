"""Foreign programs that some tests drive: redis-server, redis-cli, node.

A test that needs one asks for it by name and is skipped where it is absent,
so that the tests run on a machine with nothing but Python. With
`RAFTKV_REQUIRE_TOOLS=1`, which `.ci/run` sets after installing them, absence
fails: otherwise a broken installation would look like success.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest


def require_tool(name: str) -> str:
    """Return the path of a program, or skip the test; fail it where tools are required."""
    path = shutil.which(name)
    if path is None:
        report_absence(name)
    return path


def report_absence(name: str) -> NoReturn:
    """Skip the test because something is not installed; fail it where tools are required."""
    message = f"{name} is not installed"
    if os.environ.get("RAFTKV_REQUIRE_TOOLS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def node_path() -> dict[str, str]:
    """Return the variable that lets Node.js find the packages in `NODE_MODULES_OF_TESTS`."""
    modules = os.environ.get("NODE_MODULES_OF_TESTS")
    return {"NODE_PATH": modules} if modules else {}


def has_node_package(name: str) -> bool:
    """Whether Node.js and one of its packages are installed."""
    node = shutil.which("node")
    if node is None:
        return False
    found = subprocess.run(
        [node, "-e", f"require.resolve('{name}')"], cwd=Path(__file__).parent,
        env={**os.environ, **node_path()}, capture_output=True, check=False,
    )  # fmt: skip
    return found.returncode == 0
