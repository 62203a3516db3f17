"""Proof that all nodes hold the same: hashes, exchanged and compared.

Two hashes are compared. The state hash rolls over everything that was applied and
answered; every node tells the others about once a second which one it had after
which index. The image hash is taken over all that is in memory, at the indexes of
checkpoints (see replica.checkpoints): it sees also what no command has touched.

A node that finds a quorum of voters agreeing on another hash than its own, at the
same index, has diverged: it leaves a report in its directory and stops for good,
also against a restart; its data must be replaced. A node on the quorum's side
reports who differs. Without a quorum on either side the matter is reported and
nobody stops.

Owner: replica.checkpoints. Tests: tests/unit/replica/test_agreement.py, tests/sim.
"""

from __future__ import annotations

import enum
import json

import msgspec

from raftkv.errors import DamagedDataError, ProtocolError
from raftkv.kv.image import FORMAT_VERSION
from raftkv.seams import PEER_STATE, Disk, Network, Observer
from raftkv.storage.damage import damaged
from raftkv.types import Configuration, NodeId

REPORT_MS = 1000
# Limit: own hashes kept for comparison, indexes of which reports of others are kept, and
# alarms that are not repeated.
STATES_MAX = 4096
IMAGES_MAX = 8
REPORTS_MAX = 64
ALARMS_MAX = 1000
REPORT_NAME = "diverged.json"
_HASH_BYTES = 16


class StateReport(
    msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True
):
    """What a node tells of its state; an index is 0 where there is nothing to tell.

    Attributes:
        commit_index: Last index that the node knows to be committed.
        index: Last index applied.
        state_hash: State hash after it.
        image_index: The newest checkpoint whose image the node has hashed.
        image_hash: Hash of that image.
        image_format: Version of its format: only images of one format can be equal.
        wants_checkpoint: The node asks the leader for a checkpoint.
        is_answer: To a report on an older image, and never answered itself.
    """

    commit_index: int
    index: int
    state_hash: bytes
    image_index: int
    image_hash: bytes
    image_format: int
    wants_checkpoint: bool
    is_answer: bool


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[StateReport] = msgspec.msgpack.Decoder(StateReport)


class Verdict(enum.Enum):
    """What is known of the image at an index."""

    AGREED = "agreed"  # a quorum of voters has this node's image at that index or later
    DIFFERS = "differs"  # somebody has another one, and no quorum has spoken
    OPEN = "open"


def check_not_diverged(disk: Disk) -> None:
    """Refuse a directory whose node has found itself diverged.

    Raises:
        DamagedDataError: The report is there.
    """
    if disk.exists(REPORT_NAME):
        raise damaged(disk, REPORT_NAME, 0, "this node's state differs from the cluster's")


def decode(body: bytes) -> StateReport:
    """Return the report in `body`.

    Raises:
        ProtocolError: It is not one.
    """
    try:
        report = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a state report: {error}") from None
    if report.commit_index < 0:
        raise ProtocolError("a state report with a negative commit index")
    for index, value in (
        (report.index, report.state_hash),
        (report.image_index, report.image_hash),
    ):
        if index < 0 or len(value) != (_HASH_BYTES if index else 0):
            raise ProtocolError("a state report with a strange index or hash")
    return report


class _Hashes:
    """Hashes of one kind by index: this node's, and what the others reported.

    Attributes:
        own: Of this node, oldest first.
        reports: Of the others.
    """

    def __init__(self, own_max: int) -> None:
        self._own_max = own_max
        self.own: dict[int, bytes] = {}
        self.reports: dict[int, dict[NodeId, bytes]] = {}

    def note(self, index: int, value: bytes) -> None:
        """Remember this node's hash."""
        own = self.own
        own[index] = value
        if len(own) > self._own_max:
            del own[next(iter(own))]

    def received(self, node: NodeId, index: int, value: bytes) -> None:
        """Remember another node's hash."""
        if index:
            self.reports.setdefault(index, {})[node] = value
            while len(self.reports) > REPORTS_MAX:
                del self.reports[min(self.reports)]

    def newest(self) -> tuple[int, bytes]:
        """Return the newest hash of this node, or 0 and nothing."""
        return next(reversed(self.own.items()), (0, b""))

    def differ(self, index: int) -> bool:
        """Whether somebody reported another hash than this node's."""
        mine = self.own.get(index)
        return mine is not None and any(
            theirs != mine for theirs in self.reports.get(index, {}).values()
        )

    def drop_settled(self, applied: int) -> None:
        """Forget reports that agree, and those that cannot be compared any more.

        A disagreement stays until enough voters have spoken.
        """
        self.reports = {
            index: reports
            for index, reports in self.reports.items()
            if index > applied or self.differ(index)
        }


class Agreement:
    """Own hashes, what the others reported, and the judgement."""

    def __init__(
        self, *, node_id: NodeId, disk: Disk, network: Network, observer: Observer, now_ms: int
    ) -> None:
        self._node_id = node_id
        self._disk = disk
        self._network = network
        self._observer = observer
        self._states = _Hashes(STATES_MAX)
        self._images = _Hashes(IMAGES_MAX)
        self._images_changed = False
        self._reported_ms = now_ms
        self._urgent = False
        self._wants_checkpoint = False
        self._asking: set[NodeId] = set()
        self._commits: dict[NodeId, int] = {}
        self._commit_index = 0
        self._alarmed: set[tuple[NodeId, int, str]] = set()

    def note_applied(self, index: int, state_hash: bytes) -> None:
        """Remember the state hash after an index."""
        own = self._states.own
        own[index] = state_hash
        if len(own) > STATES_MAX:
            del own[next(iter(own))]

    def note_image(self, index: int, image_hash: bytes) -> None:
        """Remember the hash of the image at a checkpoint, and tell the others at once."""
        self._images.note(index, image_hash)
        self._images_changed = self._urgent = True

    def forget(self) -> None:
        """The store was replaced by a snapshot: what came before is not comparable."""
        self._states.own.clear()
        self._images.own.clear()

    def commit_index_of(self, node: NodeId | None) -> int:
        """Return what another node said last of its commit index; 0 if it said nothing."""
        return 0 if node is None else self._commits.get(node, 0)

    # -------------------------------------------------------------- checkpoints

    def ask_for_checkpoint(self, wanted: bool) -> None:
        """Say whether this node wants the leader to propose a checkpoint."""
        self._urgent = self._urgent or (wanted and not self._wants_checkpoint)
        self._wants_checkpoint = wanted

    @property
    def is_asked_for_checkpoint(self) -> bool:
        """Whether another node wants one."""
        return bool(self._asking)

    def checkpoint_reached(self) -> None:
        """A checkpoint was applied: nobody waits for one any more."""
        self._asking.clear()
        self._wants_checkpoint = False

    def verdict(self, index: int, configuration: Configuration) -> Verdict:
        """Say what is known of this node's memory as of an index.

        A later checkpoint answers as well: what was wrong before it and is right
        there was written anew by an entry behind the index.
        """
        verdict = Verdict.OPEN
        for at, mine in self._images.own.items():
            if at < index:
                continue
            opinions = self._opinions(at, mine, self._images, configuration)
            if sum(opinion == mine for opinion in opinions.values()) >= configuration.quorum:
                return Verdict.AGREED
            if self._images.differ(at):
                verdict = Verdict.DIFFERS
        return verdict

    # ----------------------------------------------------------------- exchange

    def turn(
        self, now_ms: int, index: int, configuration: Configuration, *, commit_index: int = 0
    ) -> None:
        """Report the own hashes if it is time, and judge what is comparable by now.

        Raises:
            DamagedDataError: This node has diverged; the report is written.
        """
        if self._urgent or now_ms - self._reported_ms >= REPORT_MS:
            self._reported_ms = now_ms
            self._urgent = False
            self._commit_index = commit_index
            body = self._report(index, self._images.newest(), is_answer=False)
            for member in configuration.members:
                if member.id != self._node_id:
                    self._network.send(member.id, PEER_STATE, body)
        if self._states.reports:
            self._judge("state", self._states, index, configuration)
            self._states.drop_settled(index)
        if self._images_changed:
            self._images_changed = False
            self._judge("image", self._images, index, configuration)

    def received(self, node: NodeId, body: bytes) -> None:
        """Keep what a peer reported.

        Raises:
            ProtocolError: It is not a report.
        """
        report = decode(body)
        if not report.is_answer:
            self._commits[node] = report.commit_index
        self._states.received(node, report.index, report.state_hash)
        if report.image_format == FORMAT_VERSION:
            self._images.received(node, report.image_index, report.image_hash)
            self._images_changed = True
        if report.is_answer:
            return
        if report.wants_checkpoint:
            self._asking.add(node)
        else:
            self._asking.discard(node)
        mine = self._images.own.get(report.image_index)
        if mine is not None and report.image_index < self._images.newest()[0]:
            # That node is late, and has missed what this one reported then.
            answer = self._report(0, (report.image_index, mine), is_answer=True)
            self._network.send(node, PEER_STATE, answer)

    def _report(self, index: int, image: tuple[int, bytes], *, is_answer: bool) -> bytes:
        state_hash = self._states.own.get(index, b"")
        return _ENCODER.encode(
            StateReport(
                self._commit_index,
                index if state_hash else 0,
                state_hash,
                *image,
                FORMAT_VERSION,
                self._wants_checkpoint,
                is_answer,
            )
        )

    # ---------------------------------------------------------------- judgement

    def _judge(
        self, what: str, hashes: _Hashes, applied: int, configuration: Configuration
    ) -> None:
        for index in sorted(index for index in hashes.reports if index <= applied):
            if hashes.differ(index):
                self._compare(what, index, hashes, configuration)

    def _compare(
        self, what: str, index: int, hashes: _Hashes, configuration: Configuration
    ) -> None:
        mine = hashes.own[index]
        opinions = self._opinions(index, mine, hashes, configuration)
        for theirs in set(opinions.values()) - {mine}:
            if sum(opinion == theirs for opinion in opinions.values()) >= configuration.quorum:
                raise self._diverged(what, index, hashes)
        for node, theirs in hashes.reports[index].items():
            if theirs != mine and (node, index, what) not in self._alarmed:
                if len(self._alarmed) >= ALARMS_MAX:
                    self._alarmed.clear()
                self._alarmed.add((node, index, what))
                self._observer.event("state_differs", peer=node, index=index, what=what)

    def _opinions(
        self, index: int, mine: bytes, hashes: _Hashes, configuration: Configuration
    ) -> dict[NodeId, bytes]:
        """Return the hashes of voters, this node's included if it votes."""
        voters = {member.id for member in configuration.voters}
        known = {**hashes.reports.get(index, {}), self._node_id: mine}
        return {node: theirs for node, theirs in known.items() if node in voters}

    def _diverged(self, what: str, index: int, hashes: _Hashes) -> DamagedDataError:
        """Leave a report that outlives this process."""
        recent = list(self._states.own.items())[-50:]
        document = {
            "what": what,
            "index": index,
            "node": self._node_id,
            "hash": hashes.own[index].hex(),
            "others": {
                node: theirs.hex() for node, theirs in sorted(hashes.reports[index].items())
            },
            "recent": {str(at): known.hex() for at, known in recent},
            "images": {str(at): known.hex() for at, known in self._images.own.items()},
        }
        data = json.dumps(document, indent=1).encode()
        file = self._disk.open(REPORT_NAME, create=True)
        try:
            file.write(data, 0)
            file.sync()
        finally:
            file.close()
        self._disk.sync_directory("")
        self._observer.event("state_diverged", index=index, what=what)
        return damaged(
            self._disk,
            REPORT_NAME,
            0,
            f"after index {index} this node's {what} differs from that of a quorum",
        )
