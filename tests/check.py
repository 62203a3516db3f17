"""The one command that says whether the tree is in order.

    python tests/check.py            format, lint, imports, types, quick tests; reads only
    python tests/check.py --static   the same without the tests
    python tests/check.py --full     the same with every test but the benchmarks
    python tests/check.py --fix      rewrites what ruff can rewrite, then stops

Owns the order and the choice of the tools, not their settings, which are in
pyproject.toml. Standard library only: a fresh clone needs `pip install -e
'.[dev]'` and nothing else. Runs every check even after one has failed, so that
one run shows everything, and ends with 1 when any failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable

STATIC_CHECKS = {
    "format": [PYTHON, "-m", "ruff", "format", "--check", "."],
    "lint": [PYTHON, "-m", "ruff", "check", "."],
    "imports": [
        PYTHON,
        "-c",
        "from importlinter.cli import lint_imports_command as main; main()",
        "--no-cache",
    ],
    "types": [PYTHON, "-m", "mypy"],
}
QUICK_TESTS = {
    "quick tests": [PYTHON, "-m", "pytest", "-q", "-m", "not slow and not chaos and not bench"],
}
ALL_TESTS = {"tests": [PYTHON, "-m", "pytest", "-q"]}
REPAIRS = {
    "lint": [PYTHON, "-m", "ruff", "check", "--fix", "."],
    "format": [PYTHON, "-m", "ruff", "format", "."],
}


def run(steps: dict[str, list[str]]) -> list[str]:
    """Run every step from the root of the tree and return the names of those that failed."""
    failed = []
    for name, command in steps.items():
        print(f"== {name}", flush=True)
        started = time.monotonic()
        result = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
        seconds = time.monotonic() - started
        verdict = "ok" if result.returncode == 0 else f"FAILED ({result.returncode})"
        print(f"== {name}: {verdict}, {seconds:.1f} s\n", flush=True)
        if result.returncode != 0:
            failed.append(name)
    return failed


def main() -> int:
    """Choose the steps by the command line and run them."""
    parser = argparse.ArgumentParser(description="Check the tree; changes nothing without --fix.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--fix", action="store_true", help="rewrite what ruff can rewrite")
    choice.add_argument("--static", action="store_true", help="no tests")
    choice.add_argument("--full", action="store_true", help="every test but the benchmarks")
    arguments = parser.parse_args()
    if arguments.fix:
        steps = REPAIRS
    elif arguments.static:
        steps = STATIC_CHECKS
    elif arguments.full:
        steps = STATIC_CHECKS | ALL_TESTS
    else:
        steps = STATIC_CHECKS | QUICK_TESTS
    failed = run(steps)
    print(f"failed: {', '.join(failed)}" if failed else "all is in order")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
