"""From a data directory to a running core and store.

Owns the order of the start: identity, newest snapshot into a store, WAL, join
the two, apply what is committed and does not fit into memory, core. Everything
found is verified before anything is used; damage stops the node with file and
position. A new directory gets an identity of its own, durable before anything
else is written.

Blocking; runs before the node serves anybody. Who calls: node, tests/sim.
Tests: tests/unit/replica/test_recovery.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from raftkv.config import Config
from raftkv.engine.core import EngineSettings, RaftCore, SafetyViolationError, join_log
from raftkv.engine.ready import (
    KIND_COMMANDS,
    KIND_CONFIGURATION,
    KINDS,
    RecoveredLog,
    SnapshotRecord,
)
from raftkv.errors import ProtocolError
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.store import KvStore
from raftkv.replica.agreement import check_not_diverged
from raftkv.replica.standing import Standing
from raftkv.seams import Clock, Disk, Observer
from raftkv.storage.damage import damaged
from raftkv.storage.identity import Identity, load_identity, save_identity
from raftkv.storage.snapshots import SnapshotStore, snapshot_name
from raftkv.storage.wal import Wal
from raftkv.storage.wal_format import DIRECTORY
from raftkv.types import Configuration, Index, SnapshotMeta, WriteSequence

# Bytes of entries read at once while they are applied.
APPLY_BYTES = 1 << 20


class RandomSource(Protocol):
    """Names of clusters and disks, jitter of elections."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...

    def getrandbits(self, count: int, /) -> int:
        """Return a number of that many bits."""
        ...


@dataclass(slots=True, kw_only=True)
class Recovered:
    """What a replica starts from; all of it is durable."""

    disk: Disk
    identity: Identity
    snapshots: SnapshotStore
    wal: Wal
    store: KvStore
    core: RaftCore
    snapshot_index: Index
    # Of entries that were applied behind the snapshot already.
    applied_bytes: int


def engine_settings(config: Config) -> EngineSettings:
    """Return the engine's share of the settings."""
    least, most = config.timing.election_timeout_ms
    return EngineSettings(
        heartbeat_ms=config.timing.heartbeat_ms,
        election_timeout_min_ms=least,
        election_timeout_max_ms=most,
        append_bytes_max=config.limits.append_bytes_max,
        log_memory_bytes_max=config.limits.log_memory_bytes_max,
    )


def recover(
    config: Config,
    disk: Disk,
    *,
    clock: Clock,
    observer: Observer,
    random: RandomSource,
    core_class: type[RaftCore] = RaftCore,
) -> Recovered:
    """Read, verify and join everything in a data directory.

    Args:
        config: Validated settings.
        disk: The directory, locked by this process.
        clock: For the start time.
        observer: Hears what was dropped or created.
        random: For new identifiers and for the engine.
        core_class: Another engine, for tests that undo a mend.

    Raises:
        DamagedDataError: Something that was durable is damaged or missing.
        IdentityRefusedError: The directory belongs to another node.
        DiskFullError, DiskFailedError: The disk cannot be used.
    """
    check_not_diverged(disk)
    identity = _identity(config, disk, random, observer)
    snapshots = SnapshotStore(disk, chunk_bytes=config.limits.snapshot_chunk_bytes)
    newest = snapshots.newest()
    store = KvStore() if newest is None else load_store(disk, snapshots, newest)
    wal, log = Wal.recover(
        disk,
        segment_bytes=config.limits.wal_segment_bytes,
        observer=observer,
        cluster_id=identity.cluster_id,
        disk_id=identity.disk_id,
        must_exist=identity.wal_created,
        memory_bytes_max=config.limits.log_memory_bytes_max,
    )
    if not identity.wal_created:
        identity = replace(identity, wal_created=True)
        save_identity(disk, identity)
    log = _join(disk, wal, log, newest)
    log, applied_bytes = _apply_evicted(disk, wal, log, store)
    core = core_class(
        node_id=config.node.id,
        disk_id=identity.disk_id,
        configuration=Configuration(
            "", tuple(sorted(config.members, key=lambda member: member.id))
        ),
        recovered=log,
        snapshot=newest,
        admitted=identity.admitted,
        settings=engine_settings(config),
        random=random,
        new_cluster_id=f"{random.getrandbits(128):032x}",
        now_ms=clock.now_ms(),
    )
    identity = _note_cluster(disk, identity, wal, core, observer)
    observer.event(
        "recovered",
        snapshot_index=newest.index if newest else 0,
        first_index=core.log.base_index + 1,
        last_index=core.log.last_index,
        term=core.term,
    )
    return Recovered(
        disk=disk,
        identity=identity,
        snapshots=snapshots,
        wal=wal,
        store=store,
        core=core,
        snapshot_index=newest.index if newest else Index(0),
        applied_bytes=applied_bytes,
    )


def load_store(disk: Disk, snapshots: SnapshotStore, meta: SnapshotMeta) -> KvStore:
    """Load a snapshot and check that it holds what its header says.

    Raises:
        DamagedDataError: A checksum or the digest of the image does not fit.
    """
    loader = ImageLoader()
    reader = snapshots.reader(meta)
    try:
        for piece in reader:
            loader.feed(piece)
        store = loader.finish()
    except ProtocolError as error:
        raise damaged(disk, snapshot_name(meta), 0, f"the image is refused: {error}") from None
    finally:
        reader.close()
    if loader.image_hash != meta.image_hash or store.applied_index != meta.index:
        raise damaged(disk, snapshot_name(meta), 0, "the image does not match its header")
    return store


def _identity(config: Config, disk: Disk, random: RandomSource, observer: Observer) -> Identity:
    identity = load_identity(disk, node_id=config.node.id)
    if identity is not None:
        return identity
    identity = Identity(
        cluster_id="", node_id=config.node.id, disk_id=f"{random.getrandbits(128):032x}"
    )
    save_identity(disk, identity)
    observer.event("directory_created", path=disk.path(""), disk_id=identity.disk_id)
    return identity


def _join(disk: Disk, wal: Wal, log: RecoveredLog, newest: SnapshotMeta | None) -> RecoveredLog:
    """Make log and snapshot meet, and tell the WAL if it has to start again."""
    snapshot_index = newest.index if newest else 0
    if log.base_index > snapshot_index:
        raise damaged(
            disk,
            "snapshots",
            0,
            f"the log starts behind index {log.base_index}, and no snapshot covers it",
        )
    joined, restart = join_log(log, newest)
    if not restart or newest is None:
        return joined
    sequence = WriteSequence(log.sequence + 1)
    wal.append(sequence, [SnapshotRecord(newest.index, newest.term)], newest.index, reserve=True)
    job = wal.sync_job()
    if job is not None:
        job.run()
        wal.finished(job)
    return replace(joined, sequence=sequence)


def _apply_evicted(
    disk: Disk, wal: Wal, log: RecoveredLog, store: KvStore
) -> tuple[RecoveredLog, int]:
    """Apply the committed entries that did not fit into memory, some at a time.

    Returns:
        The log with the configurations among them, and how many bytes were applied.
    """
    evicted = log.evicted
    configurations = []
    size = 0
    while evicted is not None and store.applied_index < evicted.last_index:
        first = Index(store.applied_index + 1)
        entries = wal.read(first, Index(evicted.last_index), APPLY_BYTES)
        for command, index, term in entries:
            if index != store.applied_index + 1 or term != evicted.term_at(index):
                raise damaged(disk, DIRECTORY, 0, f"entry {index} was read at another place before")
            if command[0] not in KINDS:
                raise SafetyViolationError(f"entry {index} is of unknown kind {command[0]}")
            if command[0] == KIND_COMMANDS:
                store.apply(index, memoryview(command)[1:])
            else:
                store.skip(index)
            if command[0] == KIND_CONFIGURATION:
                configurations.append((command, index, term))
            size += len(command) - 1
        while store.free_slice():
            pass  # There are no turns yet that would do it.
        if not entries:
            raise damaged(disk, DIRECTORY, 0, f"entry {first} is not in the WAL")
    return replace(log, configurations=tuple(configurations)), size


def _note_cluster(
    disk: Disk, identity: Identity, wal: Wal, core: RaftCore, observer: Observer
) -> Identity:
    """Remember which cluster this is, if the entry that says so is applied and the file silent."""
    committed = core.committed_configuration
    if not committed.cluster_id:
        return identity
    standing = Standing(disk, identity, wal, observer)
    standing.note_committed(committed)
    return standing.identity
