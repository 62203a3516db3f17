"""Proof that all nodes hold the same: state hashes, exchanged and compared.

Every node tells the others about once a second which hash its store had after
which index. A node that finds a quorum of voters agreeing on another hash than
its own, at the same index, has diverged: it leaves a report in its directory
and stops for good, also against a restart; its data must be replaced. A node on
the quorum's side reports who differs. Without a quorum on either side the
matter is reported and nobody stops.

Owner: replica.replica. Tests: tests/unit/replica/test_agreement.py, tests/sim.
"""

from __future__ import annotations

import json

import msgspec

from raftkv.errors import DamagedDataError, ProtocolError
from raftkv.seams import PEER_STATE, Disk, Network, Observer
from raftkv.storage.damage import damaged
from raftkv.types import Configuration, NodeId

REPORT_MS = 1000
# Limit: own hashes kept for comparison, and reports of others kept for an index
# that this node has not reached.
RECENT_MAX = 4096
REPORTS_MAX = 64
REPORT_NAME = "diverged.json"
_HASH_BYTES = 16

_Wire = tuple[int, bytes]
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[_Wire] = msgspec.msgpack.Decoder(_Wire)


def check_not_diverged(disk: Disk) -> None:
    """Refuse a directory whose node has found itself diverged.

    Raises:
        DamagedDataError: The report is there.
    """
    if disk.exists(REPORT_NAME):
        raise damaged(disk, REPORT_NAME, 0, "this node's state differs from the cluster's")


class Agreement:
    """Own recent hashes, what the others reported, and the judgement."""

    def __init__(
        self, *, node_id: NodeId, disk: Disk, network: Network, observer: Observer, now_ms: int
    ) -> None:
        self._node_id = node_id
        self._disk = disk
        self._network = network
        self._observer = observer
        self._recent: dict[int, bytes] = {}
        self._reports: dict[int, dict[NodeId, bytes]] = {}
        self._reported_ms = now_ms
        self._reported_index = 0
        self._alarmed: set[tuple[NodeId, int]] = set()

    def note_applied(self, index: int, state_hash: bytes) -> None:
        """Remember the hash after an index."""
        recent = self._recent
        recent[index] = state_hash
        if len(recent) > RECENT_MAX:
            del recent[next(iter(recent))]

    def forget(self) -> None:
        """The store was replaced by a snapshot: what came before is not comparable."""
        self._recent.clear()

    def turn(self, now_ms: int, index: int, configuration: Configuration) -> None:
        """Report the own hash if it is time, and judge what is comparable by now.

        Raises:
            DamagedDataError: This node has diverged; the report is written.
        """
        if now_ms - self._reported_ms >= REPORT_MS:
            self._reported_ms = now_ms
            if index > self._reported_index and index in self._recent:
                self._reported_index = index
                body = _ENCODER.encode((index, self._recent[index]))
                for member in configuration.members:
                    if member.id != self._node_id:
                        self._network.send(member.id, PEER_STATE, body)
        if self._reports:
            self._judge(index, configuration)

    def received(self, node: NodeId, body: bytes) -> None:
        """Keep what a peer reported.

        Raises:
            ProtocolError: It is not a report.
        """
        try:
            index, state_hash = _DECODER.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(f"not a state report: {error}") from None
        if index < 0 or len(state_hash) != _HASH_BYTES:
            raise ProtocolError("a state report with a strange index or hash")
        self._reports.setdefault(index, {})[node] = state_hash
        while len(self._reports) > REPORTS_MAX:
            del self._reports[min(self._reports)]

    def _judge(self, applied: int, configuration: Configuration) -> None:
        voters = {member.id for member in configuration.voters}
        for index in sorted(index for index in self._reports if index <= applied):
            mine = self._recent.get(index)
            reports = self._reports[index]
            if mine is not None and any(theirs != mine for theirs in reports.values()):
                self._compare(index, mine, reports, voters, configuration.quorum)
        # What is known to agree, or cannot be compared any more, is done with;
        # a disagreement stays until enough voters have spoken.
        self._reports = {
            index: reports
            for index, reports in self._reports.items()
            if index > applied
            or (
                index in self._recent
                and any(theirs != self._recent[index] for theirs in reports.values())
            )
        }

    def _compare(
        self,
        index: int,
        mine: bytes,
        reports: dict[NodeId, bytes],
        voters: set[NodeId],
        quorum: int,
    ) -> None:
        opinions = {node: theirs for node, theirs in reports.items() if node in voters}
        if self._node_id in voters:
            opinions[self._node_id] = mine
        for theirs in set(opinions.values()) - {mine}:
            if sum(opinion == theirs for opinion in opinions.values()) >= quorum:
                raise self._diverged(index, mine, reports)
        for node, theirs in reports.items():
            if theirs != mine and (node, index) not in self._alarmed:
                self._alarmed.add((node, index))
                self._observer.event("state_differs", peer=node, index=index)

    def _diverged(self, index: int, mine: bytes, reports: dict[NodeId, bytes]) -> DamagedDataError:
        """Leave a report that outlives this process."""
        document = {
            "index": index,
            "node": self._node_id,
            "state_hash": mine.hex(),
            "others": {node: theirs.hex() for node, theirs in sorted(reports.items())},
            "recent": {str(at): known.hex() for at, known in list(self._recent.items())[-50:]},
        }
        data = json.dumps(document, indent=1).encode()
        file = self._disk.open(REPORT_NAME, create=True)
        try:
            file.write(data, 0)
            file.sync()
        finally:
            file.close()
        self._disk.sync_directory("")
        self._observer.event("state_diverged", index=index)
        return damaged(
            self._disk,
            REPORT_NAME,
            0,
            f"after index {index} this node's state differs from that of a quorum",
        )
