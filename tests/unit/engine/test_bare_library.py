"""Every finding still bites PySyncObj as it is installed.

The other half of each, that the same does no harm here, is in the tests that `HALVES`
names.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
_ENGINE = "tests/unit/engine"

# Of each finding of docs/internals/engine.md: tests here that it bites the library, and
# tests that it does no harm to the engine.
HALVES: dict[str, tuple[list[str], list[str]]] = {
    "A": (
        ["test_a_an_acknowledgement_of_another_term_counts"],
        [f"{_ENGINE}/test_findings.py::test_a_an_acknowledgement_of_another_term_counts_for_nothing"],
    ),
    "B": (
        ["test_b_a_batch_that_is_sent_again_truncates_what_is_committed"],
        [f"{_ENGINE}/test_findings.py::test_b_a_late_batch_does_not_truncate_what_is_held"],
    ),
    "N1": (
        ["test_n1_a_divergent_tail_is_committed_while_a_snapshot_streams_in"],
        [f"{_ENGINE}/test_findings.py::test_n1_a_divergent_tail_is_not_applied_while_a_snapshot_is_due"],
    ),
    "N2": (
        ["test_n2_a_journal_that_covers_the_dump_is_cleared"],
        [f"{_ENGINE}/test_findings.py::test_n2_a_log_that_covers_the_snapshot_keeps_its_tail"],
    ),
    "N3": (
        ["test_n3_two_changes_at_once_split_the_brain"],
        [f"{_ENGINE}/test_findings.py::test_n3_a_second_change_waits_until_the_first_is_committed"],
    ),
    "N4": (
        ["test_n4_a_follower_with_a_divergent_tail_never_catches_up"],
        [
            f"{_ENGINE}/test_findings.py::test_n4_a_burst_of_rejections_rewinds_once",
            f"{_ENGINE}/test_findings.py"
            "::test_n4_a_follower_with_a_divergent_tail_and_batches_behind_catches_up",
        ],
    ),
    "K": (
        ["test_k_restarted_nodes_elect_with_an_old_quorum"],
        [
            f"{_ENGINE}/test_findings.py"
            "::test_k_a_restarted_node_uses_the_configuration_at_the_end_of_its_log",
        ],
    ),
    "AP": (
        [
            "test_ap_a_command_that_raises_stops_every_node",
            "test_ap_a_command_is_applied_twice_where_a_callback_raises",
        ],
        [
            f"{_ENGINE}/test_findings.py::test_ap_every_entry_is_handed_out_once",
            f"{_ENGINE}/test_findings.py::test_ap_an_entry_of_an_unknown_kind_stops_the_node",
        ],
    ),
    "C": (
        ["test_c_the_journal_syncs_nothing_and_notices_no_rot"],
        [
            "tests/unit/storage/test_wal_model.py::test_many_lives_of_crashes",
            "tests/unit/storage/test_wal_format.py::test_every_flipped_bit_of_a_frame_is_noticed",
        ],
    ),
    "D": (
        ["test_d_a_node_without_its_dump_leads"],
        [
            "tests/unit/replica/test_recovery.py"
            "::test_a_damaged_snapshot_stops_the_node_with_file_and_position",
        ],
    ),
    "V": (
        ["test_v_the_same_vote_twice_makes_a_leader"],
        [f"{_ENGINE}/test_findings.py::test_v_one_vote_counts_once"],
    ),
    "SN": (
        ["test_sn_a_late_snapshot_takes_back_what_was_applied"],
        [f"{_ENGINE}/test_findings.py::test_sn_a_late_snapshot_changes_nothing"],
    ),
    "E": (
        [
            "test_e_a_deposed_leader_leads_on_beside_its_successor",
            "test_e_a_node_that_returns_deposes_a_healthy_leader",
        ],
        [
            f"{_ENGINE}/test_election.py::test_a_leader_that_hears_no_quorum_steps_down_by_itself",
            f"{_ENGINE}/test_election.py::test_a_node_that_cannot_win_does_not_raise_the_term",
            f"{_ENGINE}/test_election.py::test_a_leader_does_not_give_way_to_a_request",
        ],
    ),
    "G": (
        ["test_g_a_callback_is_never_called"],
        [
            f"{_ENGINE}/test_apply.py::test_a_follower_refuses_definitely",
            "tests/unit/replica/test_batches.py"
            "::test_a_batch_that_times_out_is_unknown_and_its_result_goes_nowhere",
        ],
    ),
}  # fmt: skip


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
    seen = play("deaf_leader")
    assert len(seen["leaders"]) == 2
    assert seen["first"] in seen["leaders"]


def test_e_a_node_that_returns_deposes_a_healthy_leader() -> None:
    seen = play("rejoining_node")
    assert seen["term"] > seen["term_before"]
    assert not seen["leads_on"]


def test_g_a_callback_is_never_called() -> None:
    assert play("silent_callback") == {"told": []}


def test_c_the_journal_syncs_nothing_and_notices_no_rot() -> None:
    assert play("unsynced_journal") == {"synced": 0, "entries": 40, "rotten": True}


def test_d_a_node_without_its_dump_leads() -> None:
    assert play("damaged_dump") == {"leaders": ["A"], "total": 0}


def test_a_an_acknowledgement_of_another_term_counts() -> None:
    seen = play("stale_acknowledgement")
    assert seen == {"told_before": [], "told": [0], "holders": ["A", "B"]}


def test_b_a_batch_that_is_sent_again_truncates_what_is_committed() -> None:
    seen = play("repeated_batch")
    assert seen["left"] < seen["committed"] == seen["held"]


def test_n1_a_divergent_tail_is_committed_while_a_snapshot_streams_in() -> None:
    assert play("snapshot_under_way") == {"told": [0, 0, 0], "terms": [1, 1, 1]}


def test_n2_a_journal_that_covers_the_dump_is_cleared() -> None:
    seen = play("killed_behind_the_dump")
    assert seen["acknowledged"] == 20
    assert seen["left"] < seen["held"] == seen["found"]


def test_n3_two_changes_at_once_split_the_brain() -> None:
    seen = play("two_changes_at_once")
    assert seen == {"leaders": ["A", "B"], "told": [0], "told_elsewhere": [0]}


def test_n4_a_follower_with_a_divergent_tail_never_catches_up() -> None:
    seen = play("rejected_bursts")
    assert seen["applied"] == 2
    assert seen["led"] > 20


def test_k_restarted_nodes_elect_with_an_old_quorum() -> None:
    seen = play("forgotten_members")
    assert seen == {"leaders": ["A", "C"], "told": [0], "told_elsewhere": [0]}


def test_ap_a_command_that_raises_stops_every_node() -> None:
    seen = play("raising_command")
    assert seen["told"] == []
    assert seen["totals"] == [0, 0, 0]
    assert seen["errors"] > 3


def test_ap_a_command_is_applied_twice_where_a_callback_raises() -> None:
    assert play("raising_callback") == {"raised": 1, "totals": [2, 1, 1]}


def test_v_the_same_vote_twice_makes_a_leader() -> None:
    assert play("repeated_vote") == {"led_before": [], "leaders": ["A"]}


def test_sn_a_late_snapshot_takes_back_what_was_applied() -> None:
    assert play("late_snapshot") == {"before": [9, 7], "after": [5, 3]}


def functions(path: Path) -> set[str]:
    """Return the names of the functions in a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("finding", HALVES)
def test_both_halves_are_there(finding: str) -> None:
    bites, mended = HALVES[finding]
    assert bites
    assert mended
    assert set(bites) <= functions(Path(__file__))
    for test in mended:
        path, _, name = test.partition("::")
        assert name in functions(ROOT / path), test


def test_every_finding_has_both_halves() -> None:
    page = (ROOT / "docs/internals/engine.md").read_text()
    table = page[page.index("## What was found") : page.index("## Which of the library's methods")]
    assert set(re.findall(r"^\| ([A-Z]+\d?) \|", table, re.MULTILINE)) == set(HALVES)
