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
_TRANSPORT = "tests/unit/transport"

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
    "S": (
        ["test_s_a_stranger_runs_code_reads_writes_and_adds_a_member"],
        [
            "tests/integration/test_peer_port.py::test_pickles_run_nothing_on_any_path",
            f"{_TRANSPORT}/test_link.py::test_pickles_are_junk",
            f"{_TRANSPORT}/test_handshake.py::test_no_words_without_the_secret_get_in",
            f"{_ENGINE}/test_no_unpickling.py::test_a_message_form_of_the_library_is_refused",
            f"{_ENGINE}/test_no_unpickling.py::test_the_engine_opens_no_socket_of_the_library",
        ],
    ),
    "T": (
        [
            "test_t_a_forged_hello_makes_a_majority",
            "test_t_a_frame_of_any_length_is_kept",
            "test_t_a_failed_accept_ends_the_listener",
            "test_t_an_idle_link_loses_the_first_request_for_votes",
        ],
        [
            "tests/integration/test_peer_port.py::test_forged_hellos_are_refused",
            f"{_TRANSPORT}/test_link.py::test_an_unproven_claim_of_a_linked_id_changes_nothing",
            f"{_TRANSPORT}/test_frames.py::test_oversized_frame_is_refused_by_its_header",
            f"{_TRANSPORT}/test_link.py"
            "::test_memory_is_bounded_by_what_may_arrive_not_by_what_is_declared",
            f"{_TRANSPORT}/test_link.py"
            "::test_running_out_of_descriptors_does_not_close_the_listener",
            f"{_TRANSPORT}/test_mesh.py::test_idle_links_live_on_pings",
        ],
    ),
    "H": (
        ["test_h_a_transfer_begins_anew_with_every_dump"],
        [
            "tests/unit/replica/test_transfer.py"
            "::test_a_newer_snapshot_does_not_disturb_a_transfer_under_way",
            "tests/unit/replica/test_transfer.py"
            "::test_a_transfer_goes_on_where_the_receiver_stopped",
            f"{_ENGINE}/test_replication.py"
            "::test_one_message_a_peer_and_step_also_while_a_snapshot_is_pending",
        ],
    ),
    "I": (
        ["test_i_a_follower_copies_a_value_with_every_piece"],
        [
            f"{_TRANSPORT}/test_frames.py::test_small_pieces_cost_time_in_proportion",
            f"{_ENGINE}/test_replication.py::test_one_entry_above_the_limit_goes_alone",
        ],
    ),
    "P": (
        ["test_p_a_lone_client_waits_or_every_command_is_a_message"],
        [
            "tests/unit/replica/test_batches.py"
            "::test_all_runs_of_a_turn_are_one_entry_and_get_their_own_results",
            f"{_ENGINE}/test_replication.py"
            "::test_a_leaders_appends_do_not_wait_for_the_entries_they_carry",
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


def test_s_a_stranger_runs_code_reads_writes_and_adds_a_member() -> None:
    assert play("stranger") == {"ran": ["code"], "told": True, "total": 41, "members": 2}


def test_t_a_forged_hello_makes_a_majority() -> None:
    seen = play("forged_hello")
    assert seen["told"] == [0]
    assert seen["peer_last_index"] < seen["index"]


def test_t_a_frame_of_any_length_is_kept() -> None:
    seen = play("frame_without_limit")
    assert seen["held"] == seen["sent"] > 1 << 20


def test_t_a_failed_accept_ends_the_listener() -> None:
    assert play("failed_accept") == {"is_listening": False, "believes_so": True}


def test_t_an_idle_link_loses_the_first_request_for_votes() -> None:
    assert play("idle_link") == {"heard_soon": True, "heard_when_idle": False}


def test_h_a_transfer_begins_anew_with_every_dump() -> None:
    seen = play("transfer_begun_anew")
    assert seen["ended_at_rest"] == 1
    assert seen["sent"] > 3 * seen["needed"]
    assert (seen["begun"], seen["ended"], seen["answers"]) == (12, 0, 0)


def test_i_a_follower_copies_a_value_with_every_piece() -> None:
    assert play("pieces_of_a_value") == {"copies": [5, 10, 20, 40], "total": 4}


def test_p_a_lone_client_waits_or_every_command_is_a_message() -> None:
    seen = play("lone_client")
    assert seen["batch"]["wait_ms"] > 90
    assert seen["batch"]["appends"] < 5
    assert seen["single"]["wait_ms"] < 5
    assert seen["single"]["appends"] >= 100


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
