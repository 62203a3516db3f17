"""The only doors to the world: clock, disk, network, workers, observer.

Everything that runs in production and in the simulator takes these as
arguments. The real ones are in `storage.disk`, `transport.mesh`,
`replica.shell` and `observe`; the simulated ones in `tests/sim`.

Who calls: the one thread that owns the state, except where a method says that
a worker may call it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from raftkv.types import NodeId

T = TypeVar("T")

# Kinds of frames between members. Those from 240 on belong to the link itself.
PEER_RAFT = 1
PEER_SNAPSHOT = 2
PEER_STATE = 3
PEER_FORWARD = 16
PEER_FORWARD_REPLY = 17
PEER_PUBLISH = 18


class Clock(Protocol):
    """Time as a node sees it."""

    def now_ms(self) -> int:
        """Milliseconds since boot, suspend included; never goes back."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump either way."""
        ...


class DiskFile(Protocol):
    """One open file. Reads and writes take positions; there is no cursor."""

    def write(self, data: bytes | bytearray | memoryview, position: int) -> None:
        """Write all of `data` without making it durable.

        Raises:
            DiskFullError: There is no space; the file may hold a part.
            DiskFailedError: The write failed; the node must stop.
        """
        ...

    def read(self, position: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer at the end of the file."""
        ...

    def size(self) -> int:
        """Length of the file in bytes."""
        ...

    def allocate(self, size: int) -> None:
        """Fill the file with zeros up to `size` so that later writes need no metadata.

        Raises:
            DiskFullError: There is no space.
        """
        ...

    def truncate(self, size: int) -> None:
        """Cut the file."""
        ...

    def sync(self) -> None:
        """Make all earlier writes durable. May run on a worker.

        Raises:
            DiskFailedError: Never to be retried; the node must stop.
        """
        ...

    def close(self) -> None:
        """Release the descriptor; does not sync."""
        ...


class Disk(Protocol):
    """The data directory of one node. Names are relative, with `/`."""

    def path(self, name: str) -> str:
        """Full path, for messages to people."""
        ...

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        """Open for reading and writing; `create` makes a new, empty file.

        Raises:
            FileNotFoundError: `create` is false and there is none.
            FileExistsError: `create` is true and there is one.
        """
        ...

    def exists(self, name: str) -> bool:
        """Whether a file of that name is there."""
        ...

    def names(self, directory: str) -> list[str]:
        """Sorted names of the files in a directory; empty where there is none."""
        ...

    def make_directory(self, name: str) -> None:
        """Create a directory and make it durable; fine if it exists."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Replace `target` atomically; durable after `sync_directory`."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file; durable after `sync_directory`."""
        ...

    def sync_directory(self, directory: str) -> None:
        """Make creations, renames and removals durable. May run on a worker."""
        ...

    def free_bytes(self) -> int:
        """Space that a file could still take."""
        ...


class Network(Protocol):
    """Links to the other members. Loses messages only with the connection."""

    def send(self, node: NodeId, kind: int, body: bytes) -> None:
        """Queue one frame for a peer; dropped silently where no link is up."""
        ...

    def flush(self) -> None:
        """Hand everything queued to the operating system, one write a peer."""
        ...


class Worker(Protocol):
    """Runs blocking jobs one after the other, off the owning thread."""

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run `job` elsewhere, then call `done` with its result on the owning thread.

        An exception of the job is handed to `done` as a value.
        """
        ...


class Observer(Protocol):
    """Where low layers report what happened, for logs and metrics."""

    def event(self, name: str, /, **fields: object) -> None:
        """Report one rare event. Never called per command or per batch."""
        ...


class Slot(Protocol):
    """Where the answers of one run of commands go; filled exactly once."""

    def resolve(self, results: Sequence[object]) -> None:
        """Take one result a command, in order."""
        ...

    def fail(self, failure: Failure) -> None:
        """Take the reason why the whole run has no result."""
        ...


class Failure:
    """Why a run of commands has no result.

    Attributes:
        definite: True when certainly not executed.
        reason: Words for people and for the error text; stable, documented.
    """

    __slots__ = ("definite", "reason")

    def __init__(self, reason: str, *, definite: bool) -> None:
        self.reason = reason
        self.definite = definite

    def __repr__(self) -> str:
        return f"Failure({self.reason!r}, definite={self.definite})"


NOT_LEADER = Failure("not leader", definite=True)
NO_LEADER = Failure("no leader elected", definite=True)
DISK_FULL = Failure("disk full", definite=True)
STATES_DIFFER = Failure("the states of the nodes differ", definite=True)
OVERLOADED = Failure("overloaded", definite=True)
DISCARDED = Failure("entry discarded", definite=True)
SHUTTING_DOWN = Failure("shutting down", definite=True)
READ_TIMEOUT = Failure("timeout", definite=True)
LEADERSHIP_LOST = Failure("leadership lost", definite=False)
TIMEOUT = Failure("timeout", definite=False)
