"""The scenarios that need whole nodes still bite PySyncObj as it is installed.

The other half of each, that the same does no harm here, is in the tests that are named;
scenarios of single messages have both halves in `test_findings`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def play(scenario: str) -> dict[str, Any]:
    """Play a scenario in a process where the library is what it was."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.engine.bare_library", scenario],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_e_a_deposed_leader_leads_on_beside_its_successor() -> None:
    """Mended: `test_election`."""
    seen = play("deaf_leader")
    assert len(seen["leaders"]) == 2
    assert seen["first"] in seen["leaders"]


def test_e_a_node_that_returns_deposes_a_healthy_leader() -> None:
    """Mended: `test_election`."""
    seen = play("rejoining_node")
    assert seen["term"] > seen["term_before"]
    assert not seen["leads_on"]


def test_g_a_callback_is_never_called() -> None:
    """Mended: `test_apply`, and the deadlines of `tests/unit/replica/test_batches.py`."""
    assert play("silent_callback") == {"told": []}


def test_c_the_journal_syncs_nothing_and_notices_no_rot() -> None:
    """Mended: `tests/unit/storage`."""
    assert play("unsynced_journal") == {"synced": 0, "entries": 40, "rotten": True}


def test_d_a_node_without_its_dump_leads() -> None:
    """Mended: `tests/unit/replica/test_recovery.py`."""
    assert play("damaged_dump") == {"leaders": ["A"], "total": 0}


@pytest.mark.parametrize(
    "path",
    [
        "tests/unit/engine/test_election.py", "tests/unit/engine/test_apply.py",
        "tests/unit/replica/test_batches.py", "tests/unit/replica/test_recovery.py",
    ],
)  # fmt: skip
def test_the_other_half_is_there(path: str) -> None:
    assert (ROOT / path).exists()
