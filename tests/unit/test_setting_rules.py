"""Each rule refuses what breaks it, accepts its edge, and names the key."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.config import MIB, Address, Choice, FilePath, Name, Number, NumberPair
from raftkv.setting_rules import check_relations, find_warnings, judge
from raftkv.settings import MISSING, SETTINGS
from raftkv.types import Member, NodeId

NUMBER = Number(5, 10, "ms", "M.")
PAIR = NumberPair(5, 10, "ms", "M.")
CHOICE = Choice(("redirect", "proxy"), "M.")


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (NUMBER, 5, ""),
        (NUMBER, 10, ""),
        (NUMBER, 4, "4 is out of range"),
        (NUMBER, 11, "11 is out of range"),
        (NUMBER, True, "True is true or false, not a whole number"),
        (NUMBER, 7.0, "7.0 is a fraction, not a whole number"),
        (NUMBER, "7", "'7' is text, not a whole number"),
        (PAIR, [5, 10], ""),
        (PAIR, (5, 10), ""),
        (PAIR, [5], "[5] is not a pair of numbers"),
        (PAIR, 5, "5 is not a pair of numbers"),
        (PAIR, [5, 11], "11 is out of range"),
        (PAIR, [10, 5], "[10, 5] is not in rising order"),
        (PAIR, [5, 5], "[5, 5] is not in rising order"),
        (CHOICE, "proxy", ""),
        (CHOICE, "redirct", "'redirct' is not one of them; did you mean redirect?"),
        (CHOICE, "zzz", "'zzz' is not one of them"),
        (CHOICE, 1, "1 is a whole number, not text"),
        (Address("M."), "localhost:7001", ""),
        (Address("M."), "localhost", "'localhost' has no port"),
        (Name("M."), "n1", ""),
        (Name("M."), "n 1", "'n 1' is no name"),
        (Name("M."), "n" * 64, f"{'n' * 64!r} is no name"),
        (FilePath("M."), "data", ""),
        (FilePath("M."), "", "is empty"),
        (FilePath("M.", may_be_empty=True), "", ""),
        (FilePath("M."), "a\0b", "holds a zero byte"),
        (FilePath("M."), {}, "{} is a table, not text"),
    ],
)
def test_judge(kind: Any, value: object, problem: str) -> None:
    assert judge(kind, value) == problem


def test_a_long_value_is_shortened_in_the_problem() -> None:
    assert len(judge(NUMBER, "x" * 1000)) < 150


def members(*triples: tuple[str, str, str]) -> tuple[Member, ...]:
    return tuple(
        Member(id=NodeId(name), client=client, peer=peer) for name, client, peer in triples
    )


THREE = members(
    ("n1", "127.0.0.1:7001", "127.0.0.1:7101"),
    ("n2", "127.0.0.1:7002", "127.0.0.1:7102"),
    ("n3", "127.0.0.1:7003", "127.0.0.1:7103"),
)


def valid_values(**changes: object) -> dict[str, Any]:
    values: dict[str, Any] = {
        key: setting.default for key, setting in SETTINGS.items() if setting.default is not MISSING
    }
    values |= {
        "node.id": "n1",
        "node.data_dir": "data/n1",
        "listen.client": "127.0.0.1:7001",
        "listen.peer": "127.0.0.1:7101",
        "listen.admin": "127.0.0.1:7201",
        "members": THREE,
    }
    return values | {key.replace("__", "."): value for key, value in changes.items()}


def test_defaults_with_three_local_members_are_in_order() -> None:
    assert check_relations(valid_values()) == []
    assert list(find_warnings(valid_values(), given=())) == []


# Each row: what is changed, the key that the only problem names, and a change beside it
# that is just allowed.
BROKEN_RELATIONS = [
    ({"timing__heartbeat_ms": 101}, "timing.election_timeout_ms", {"timing__heartbeat_ms": 100}),
    (
        {"timing__election_timeout_ms": (300, 349)},
        "timing.election_timeout_ms",
        {"timing__election_timeout_ms": (300, 350)},
    ),
    ({"timing__leader_wait_ms": 4000}, "timing.leader_wait_ms", {"timing__leader_wait_ms": 3999}),
    (
        {"limits__value_bytes_max": 8 * MIB},
        "limits.request_bytes_max",
        {"limits__value_bytes_max": 8 * MIB - 128 * 1024},
    ),
    (
        {"limits__output_buffer_bytes_max": 4 * MIB},
        "limits.output_buffer_bytes_max",
        {"limits__output_buffer_bytes_max": 4 * MIB + 64 * 1024},
    ),
    (
        {"limits__uncommitted_bytes_max": 9 * MIB - 1},
        "limits.uncommitted_bytes_max",
        {"limits__uncommitted_bytes_max": 9 * MIB},
    ),
    (
        {"limits__wal_segment_bytes": 9 * MIB},
        "limits.wal_segment_bytes",
        {"limits__wal_segment_bytes": 9 * MIB + 256 * 1024},
    ),
    (
        {"limits__peer_frame_bytes_max": 9 * MIB},
        "limits.peer_frame_bytes_max",
        {"limits__peer_frame_bytes_max": 9 * MIB + 64 * 1024},
    ),
    (
        {
            "limits__request_arguments_max": 1 << 20,
            "limits__peer_frame_bytes_max": 24 * MIB + 64 * 1024 - 1,
        },
        "limits.peer_frame_bytes_max",
        {
            "limits__request_arguments_max": 1 << 20,
            "limits__peer_frame_bytes_max": 24 * MIB + 64 * 1024,
        },
    ),
    (
        {"limits__snapshot_chunk_bytes": 25 * MIB},
        "limits.peer_frame_bytes_max",
        {"limits__snapshot_chunk_bytes": 23 * MIB},
    ),
    (
        {"limits__peer_queue_bytes_max": 32 * MIB - 1},
        "limits.peer_queue_bytes_max",
        {"limits__peer_queue_bytes_max": 32 * MIB},
    ),
    (
        {"limits__snapshot_keep_log_bytes": 32 * MIB + 1},
        "limits.snapshot_keep_log_bytes",
        {"limits__snapshot_keep_log_bytes": 32 * MIB},
    ),
    ({"listen__peer": "127.0.0.1:7001"}, "listen.peer", {"listen__peer": "127.0.0.1:7009"}),
    ({"listen__admin": "127.0.0.1:7001"}, "listen.admin", {"listen__admin": "127.0.0.1:7009"}),
    ({"node__id": "n4"}, "node.id", {"node__id": "n2"}),
    (
        {"members": (*THREE, *members(("n1", "127.0.0.1:7004", "127.0.0.1:7104")))},
        "members[3].id",
        {"members": (*THREE, *members(("n4", "127.0.0.1:7004", "127.0.0.1:7104")))},
    ),
    (
        {"members": (*THREE, *members(("n4", "127.0.0.1:7003", "127.0.0.1:7104")))},
        "members[3].client",
        {"members": THREE},
    ),
    (
        {"members": (*THREE, *members(("n4", "127.0.0.1:7004", "127.0.0.1:7001")))},
        "members[3].peer",
        {"members": THREE},
    ),
    (
        {"listen__peer": "0.0.0.0:7101"},
        "security.peer_secret_file",
        {"listen__peer": "0.0.0.0:7101", "security__peer_secret_file": "s"},
    ),
    (
        {"members": (*THREE, *members(("n4", "10.0.0.4:7004", "10.0.0.4:7104")))},
        "security.peer_secret_file",
        {"listen__client": "0.0.0.0:7001"},
    ),
]


@pytest.mark.parametrize(("change", "key", "allowed"), BROKEN_RELATIONS)
def test_relation(change: dict[str, Any], key: str, allowed: dict[str, Any]) -> None:
    problems = check_relations(valid_values(**change))
    assert [problem.partition(":")[0] for problem in problems] == [key]
    assert check_relations(valid_values(**allowed)) == []


def test_a_relation_shows_all_its_values() -> None:
    (problem,) = check_relations(valid_values(timing__leader_wait_ms=4500))
    assert problem == (
        "timing.leader_wait_ms: 4500 must be below timing.request_timeout_ms, of which it is a "
        "part (timing.request_timeout_ms = 4000)"
    )


def test_a_relation_with_an_unknown_side_is_not_judged() -> None:
    values = valid_values(timing__leader_wait_ms=4500)
    del values["timing.request_timeout_ms"]
    assert check_relations(values) == []


def test_no_secret_problem_while_the_secret_setting_itself_is_refused() -> None:
    values = valid_values(listen__peer="0.0.0.0:7101")
    del values["security.peer_secret_file"]
    assert check_relations(values) == []


@pytest.mark.parametrize(
    ("change", "given", "key"),
    [
        ({"members": THREE[:2]}, (), "members"),
        ({"durability__sync": "never"}, (), "durability.sync"),
        ({}, ("durability.sync_interval_ms",), "durability.sync_interval_ms"),
        (
            {"members": members(("n1", "10.0.0.1:7001", "127.0.0.1:7101"))},
            (),
            "listen.client",
        ),
        (
            {"members": members(("n1", "127.0.0.1:7001", "10.0.0.1:7101"))},
            (),
            "listen.peer",
        ),
    ],
)
def test_warning(change: dict[str, Any], given: tuple[str, ...], key: str) -> None:
    warnings = list(find_warnings(valid_values(**change), given))
    assert [warning.partition(":")[0] for warning in warnings] == [key]
