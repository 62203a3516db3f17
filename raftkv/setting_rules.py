"""What a setting may be: each by its own kind, and together by their relations.

Owns the judgement and the words of every problem and warning. Does not own the
ranges and meanings (`raftkv.config`) nor where a value came from
(`raftkv.settings`, the only caller). Pure.

Invariant: a problem starts with the key it is about and names what is allowed,
so that it can be mended without opening the manual.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from raftkv.config import (
    ARGUMENT_OVERHEAD_BYTES,
    OVERHEAD_BYTES,
    Address,
    Choice,
    FilePath,
    Name,
    Number,
    NumberPair,
    SettingKind,
    is_loopback,
    is_node_id,
    split_address,
)
from raftkv.types import Member

MEMBERS = "members"

# ------------------------------------------------------------------- judging


def judge(kind: SettingKind, value: object) -> str:
    """Say what is wrong with a value of that kind; empty when nothing is."""
    if isinstance(kind, Number):
        return _judge_number(kind.low, kind.high, value)
    if isinstance(kind, NumberPair):
        if not isinstance(value, list | tuple) or len(value) != 2:
            return f"{_shown(value)} is not a pair of numbers"
        problem = _judge_number(kind.low, kind.high, value[0]) or _judge_number(
            kind.low, kind.high, value[1]
        )
        if problem:
            return problem
        return "" if value[0] < value[1] else f"{_shown(value)} is not in rising order"
    if not isinstance(value, str):
        return f"{_shown(value)} is {type_name(value)}, not text"
    if isinstance(kind, Choice):
        return _judge_choice(kind, value)
    if isinstance(kind, Address):
        try:
            split_address(value)
        except ValueError as error:
            return f"{value!r} {error}"
        return ""
    if isinstance(kind, Name):
        return "" if is_node_id(value) else f"{value!r} is no name"
    return _judge_path(kind, value)


def _judge_number(low: int, high: int, value: object) -> str:
    # bool is an int in Python, and `true` in TOML is never meant as 1.
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{_shown(value)} is {type_name(value)}, not a whole number"
    return "" if low <= value <= high else f"{value} is out of range"


def _judge_choice(kind: Choice, value: str) -> str:
    if value in kind.values:
        return ""
    return f"{value!r} is not one of them{did_you_mean(value, list(kind.values))}"


def _judge_path(kind: FilePath, value: str) -> str:
    if "\0" in value:
        return "holds a zero byte"
    return "" if value or kind.may_be_empty else "is empty"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def one_line(problem: str) -> str:
    """Write a problem so that a terminal shows it as it is, whatever name it quotes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in problem
    )


def type_name(value: object) -> str:
    """Name the type of a TOML value, for people."""
    names = {bool: "true or false", dict: "a table", list: "an array", str: "text"}
    names |= {int: "a whole number", float: "a fraction"}
    return names.get(type(value), f"a {type(value).__name__}")


def did_you_mean(word: str, known: list[str]) -> str:
    """Return `; did you mean X?` for the nearest known word, or nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


# ----------------------------------------------------------------- relations


@dataclass(frozen=True, slots=True)
class _Relation:
    """Two or more settings that must fit each other.

    Attributes:
        keys: The first is the one that a problem names.
        holds: Called with the values of `keys`.
        rule: What must hold, for people.
    """

    keys: tuple[str, ...]
    holds: Callable[..., bool]
    rule: str


_RELATIONS = (
    _Relation(
        ("timing.election_timeout_ms", "timing.heartbeat_ms"),
        lambda election, heartbeat: election[0] >= 3 * heartbeat,
        "must begin at three times timing.heartbeat_ms or later, "
        "or a single late heartbeat starts an election",
    ),
    _Relation(
        ("timing.election_timeout_ms", "timing.heartbeat_ms"),
        lambda election, heartbeat: election[1] - election[0] >= heartbeat,
        "must be a range at least timing.heartbeat_ms wide, "
        "or candidates keep standing against each other",
    ),
    _Relation(
        ("timing.leader_wait_ms", "timing.request_timeout_ms"),
        lambda wait, timeout: wait < timeout,
        "must be below timing.request_timeout_ms, of which it is a part",
    ),
    _Relation(
        ("limits.request_bytes_max", "limits.key_bytes_max", "limits.value_bytes_max"),
        lambda request, key, value: request >= key + value + OVERHEAD_BYTES,
        "must hold a key of limits.key_bytes_max, a value of limits.value_bytes_max and 64 KiB",
    ),
    _Relation(
        ("limits.output_buffer_bytes_max", "limits.value_bytes_max"),
        lambda buffer, value: buffer >= value + OVERHEAD_BYTES,
        "must hold a value of limits.value_bytes_max and 64 KiB",
    ),
    _Relation(
        ("limits.uncommitted_bytes_max", "limits.request_bytes_max", "limits.batch_bytes_max"),
        lambda uncommitted, request, batch: uncommitted >= request + batch,
        "must hold limits.request_bytes_max and limits.batch_bytes_max together",
    ),
    _Relation(
        ("limits.wal_segment_bytes", "limits.request_bytes_max", "limits.batch_bytes_max"),
        lambda segment, request, batch: segment >= request + batch + 4 * OVERHEAD_BYTES,
        "must hold limits.request_bytes_max, limits.batch_bytes_max and 256 KiB together",
    ),
    _Relation(
        (
            "limits.peer_frame_bytes_max",
            "limits.request_bytes_max",
            "limits.request_arguments_max",
            "limits.batch_bytes_max",
            "limits.append_bytes_max",
            "limits.snapshot_chunk_bytes",
        ),
        lambda frame, request, arguments, *others: (
            frame >= request + max(arguments * ARGUMENT_OVERHEAD_BYTES, *others) + OVERHEAD_BYTES
        ),
        "must hold limits.request_bytes_max, the largest of limits.batch_bytes_max, "
        "limits.append_bytes_max, limits.snapshot_chunk_bytes and 16 bytes for each of "
        "limits.request_arguments_max, and 64 KiB together",
    ),
    _Relation(
        ("limits.peer_queue_bytes_max", "limits.peer_frame_bytes_max"),
        lambda queue, frame: queue >= frame,
        "must hold one message of limits.peer_frame_bytes_max",
    ),
    _Relation(
        ("limits.snapshot_keep_log_bytes", "limits.snapshot_log_bytes"),
        lambda keep, log: keep <= log,
        "must be at most limits.snapshot_log_bytes",
    ),
)


def check_relations(values: Mapping[str, Any]) -> list[str]:
    """Judge what no single value shows.

    Args:
        values: By key, with `members` as a tuple of `Member`. Relations with a
            key that is absent are skipped.

    Returns:
        A sentence a problem, starting with the key.
    """
    problems = []
    for relation in _RELATIONS:
        if all(key in values for key in relation.keys):
            found = [values[key] for key in relation.keys]
            if not relation.holds(*found):
                shown = [list(value) if isinstance(value, tuple) else value for value in found]
                others = ", ".join(
                    f"{key} = {value}"
                    for key, value in zip(relation.keys[1:], shown[1:], strict=True)
                )
                problems.append(f"{relation.keys[0]}: {shown[0]} {relation.rule} ({others})")
    problems += _check_addresses(values)
    problems += _check_members(values)
    problems += _check_secret(values)
    return problems


def _check_addresses(values: Mapping[str, Any]) -> list[str]:
    listening = [key for key in values if key.startswith("listen.")]
    return _check_unique((key, values[key]) for key in listening)


def _check_members(values: Mapping[str, Any]) -> list[str]:
    members: tuple[Member, ...] | None = values.get(MEMBERS)
    if members is None:
        return []
    problems = _check_unique(
        (f"{MEMBERS}[{position}].id", member.id) for position, member in enumerate(members)
    )
    problems += _check_unique(
        (f"{MEMBERS}[{position}].{name}", getattr(member, name))
        for position, member in enumerate(members)
        for name in ("client", "peer")
    )
    known = [str(member.id) for member in members]
    node_id = values.get("node.id")
    if node_id is not None and node_id not in known:
        advice = did_you_mean(node_id, known) or f"; they are {', '.join(known)}"
        problems.append(f"node.id: {node_id!r} is not one of the members{advice}")
    return problems


def _check_unique(pairs: Iterable[tuple[str, str]]) -> list[str]:
    problems = []
    owners: dict[str, str] = {}
    for key, value in pairs:
        if value in owners:
            problems.append(f"{key}: {value!r} is already {owners[value]}")
        owners.setdefault(value, key)
    return problems


def _check_secret(values: Mapping[str, Any]) -> list[str]:
    if values.get("security.peer_secret_file", "unknown"):
        return []
    addresses = [values["listen.peer"]] if "listen.peer" in values else []
    addresses += [member.peer for member in values.get(MEMBERS, ())]
    outside = [address for address in addresses if not is_loopback(address)]
    if not outside:
        return []
    return [
        "security.peer_secret_file: is missing; it is required because the peer address "
        f"{outside[0]} is not a loopback address (`raftkv init` writes such a file)"
    ]


def find_warnings(values: Mapping[str, Any], given: Container[str]) -> Iterator[str]:
    """Say what is allowed and probably not meant.

    Args:
        values: Every setting, as in `check_relations`.
        given: Keys that a source mentioned.

    Yields:
        A sentence each, starting with the key.
    """
    members: tuple[Member, ...] = values[MEMBERS]
    if len(members) % 2 == 0:
        yield (
            f"{MEMBERS}: {len(members)} members survive the loss of {len(members) // 2 - 1}, "
            f"no more than {len(members) - 1} would"
        )
    sync = values["durability.sync"]
    if sync != "always":
        yield f'durability.sync: "{sync}" may lose acknowledged writes in a power cut'
    if sync != "interval" and "durability.sync_interval_ms" in given:
        yield 'durability.sync_interval_ms: has no effect without durability.sync = "interval"'
    own = next(member for member in members if member.id == values["node.id"])
    for name in ("client", "peer"):
        bound, advertised = values[f"listen.{name}"], getattr(own, name)
        if is_loopback(bound) and not is_loopback(advertised):
            yield (
                f"listen.{name}: {bound} cannot be reached from other machines, "
                f"although {advertised} is advertised"
            )
