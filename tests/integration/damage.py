"""Bit rot in the files of a stopped node: where it must be noticed, and how it is made.

A position counts as covered when a completed sync had covered it, by what the WAL
says itself: the highest synced end in any frame. Behind it, damage cannot be told
from a torn write and may be dropped.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path

from raftkv.storage.wal_format import (
    KIND_MARK,
    SEGMENT_HEADER_SIZE_MAX,
    decode_frame,
    decode_segment_header,
    segment_tag,
)
from tests.integration.cluster import Cluster

# `<file>, byte <position>: <what is wrong>`, then the advice.
_DAMAGE = re.compile(r"^raftkv: (?P<file>/.+), byte (?P<position>\d+): (?P<detail>.+)$", re.M)
# Leftovers that every start may remove, and the lock, which it writes.
_TRANSIENT = ("lock", "next", "urgent", "writing")


@dataclass(frozen=True)
class Place:
    """One byte of one file."""

    path: Path
    position: int

    def __str__(self) -> str:
        return f"{self.path.name} byte {self.position}"


@dataclass(frozen=True)
class Report:
    """What a node said of its damage before it ended."""

    file: Path
    position: int
    detail: str
    text: str

    @property
    def has_advice(self) -> bool:
        """Whether it says what to do, where, and on what condition."""
        words = ("delete the directory", "start the node again", "majority of the other nodes")
        return all(word in self.text for word in words)


def parse_report(output: str, data_dir: Path) -> Report:
    """Return what the output of a node that refused to start says."""
    found = _DAMAGE.search(output)
    assert found is not None, f"no file and position in: {output}"
    assert str(data_dir) in output[found.end() :], f"no directory in the advice: {output}"
    return Report(Path(found["file"]), int(found["position"]), found["detail"], output)


def flip_bit(place: Place, bit: int) -> None:
    """Turn one bit over; a second time, it is as before."""
    with place.path.open("r+b") as file:
        file.seek(place.position)
        byte = file.read(1)[0]
        file.seek(place.position)
        file.write(bytes([byte ^ (1 << bit)]))


def segments(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "wal").glob("*.segment"))


def snapshots(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "snapshots").glob("*.snapshot"))


def wait_for_snapshots(cluster: Cluster) -> None:
    """Wait until every node has a snapshot: one that is due waits for a quorum to agree on it."""
    cluster.wait_until(
        lambda: all(snapshots(node.data_dir) for node in cluster.nodes),
        "a snapshot on every node",
    )


@dataclass(frozen=True)
class Covered:
    """What of a WAL completed syncs had covered.

    Attributes:
        ranges: Files with how many of their first bytes.
        marks: Number of sync marks that were read.
    """

    ranges: tuple[tuple[Path, int], ...]
    marks: int

    @property
    def byte_count(self) -> int:
        return sum(size for _, size in self.ranges)

    def choose(self, source: random.Random) -> Place:
        """Return a random place, each byte as likely as any other."""
        position = source.randrange(self.byte_count)
        for path, size in self.ranges:
            if position < size:
                return Place(path, position)
            position -= size
        raise AssertionError("position behind the end")


def covered_by_sync(data_dir: Path) -> Covered:
    """Read an undamaged WAL."""
    proof = (0, 0)
    marks = 0
    for path in segments(data_dir):
        data = path.read_bytes()
        decoded = decode_segment_header(data[:SEGMENT_HEADER_SIZE_MAX])
        assert decoded is not None, path
        header, position = decoded
        tag = segment_tag(data[:position])
        proof = max(proof, tuple(header.synced))
        while (frame := decode_frame(data, position, len(data), tag)) is not None:
            proof = max(proof, tuple(frame.synced))
            marks += frame.kind == KIND_MARK
            position = frame.end
    ranges = []
    for path in segments(data_dir):
        number = int(path.stem)
        if number < proof[0]:
            ranges.append((path, path.stat().st_size))
        elif number == proof[0]:
            ranges.append((path, proof[1]))
    assert ranges
    return Covered(tuple(ranges), marks)


def digest_of(data_dir: Path) -> str:
    """Return a digest over names and contents of all files that say something."""
    digest = hashlib.blake2b()
    for path in sorted(data_dir.rglob("*")):
        if path.is_file() and path.name not in _TRANSIENT:
            digest.update(str(path.relative_to(data_dir)).encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()
