"""The one door to PySyncObj: version, private names, clock, dice, no pickle.

Owns the import of the library and everything that is changed in its modules
for the whole process:

* the version is pinned, and every private name that the mends rely on is
  looked up at import, so that another release fails at once and by name;
* the library's clock and random source are replaced by `WORLD`, which
  `RaftCore.step` sets before it lets any library code run;
* the name `pickle` in every module of the library is replaced by an object
  that raises: its membership, version, transmission and dump paths unpickle
  bytes from the network and the disk without our code naming them.

Users: the `syncobj_*` modules of this package, nobody else.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn, Protocol

import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

__all__ = [
    "CANDIDATE",
    "FOLLOWER",
    "LEADER",
    "WORLD",
    "Node",
    "SyncObj",
    "SyncObjConf",
    "Transport",
]

PINNED_VERSION = "0.3.17"

FOLLOWER = 0
CANDIDATE = 1
LEADER = 2

# Methods of SyncObj that the mends call, guard or replace.
PRIVATE_METHODS = (
    "__onMessageReceived",
    "__sendNextNodeIdx",
    "__sendAppendEntries",
    "__applyLogEntries",
    "__doApplyCommand",
    "__loadDumpFile",
    "__changeCluster",
    "__doChangeCluster",
    "__parseChangeClusterRequest",
    "__tryLogCompaction",
    "__onBecomeLeader",
    "__setCurrentTerm",
    "__setState",
    "__generateRaftTimeout",
    "__getEntries",
    "__getCurrentLogIndex",
    "__getCurrentLogTerm",
    "__deleteEntriesFrom",
    "__deleteEntriesTo",
)

# Attributes of a SyncObj object that `syncobj_state` reads or sets.
PRIVATE_ATTRIBUTES = (
    "__raftState",
    "__raftCurrentTerm",
    "__votedForNodeId",
    "__votesCount",
    "__raftLeader",
    "__raftElectionDeadline",
    "__raftLog",
    "__raftCommitIndex",
    "__raftLastApplied",
    "__raftNextIndex",
    "__raftMatchIndex",
    "__lastResponseTime",
    "__leaderCommitIndex",
    "__noopIDx",
    "__otherNodes",
    "__connectedNodes",
    "__commandsWaitingCommit",
    "__needLoadDumpFile",
)


class RandomSource(Protocol):
    """Where election timeouts get their jitter."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


class _World:
    """The clock and the dice that library code sees during a step."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.source: RandomSource | None = None

    def random(self) -> float:
        if self.source is None:
            raise RuntimeError("library code ran outside RaftCore.step")
        return self.source.random()

    def monotonic(self) -> float:
        return self.now_s


class _PickleRefused:
    """Stands where the library expects the name `pickle`."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"pickle.{name} is refused: no code runs from the network or the disk")


WORLD = _World()


def _verify_release() -> None:
    if VERSION != PINNED_VERSION:
        raise ImportError(f"raftkv needs pysyncobj=={PINNED_VERSION}, found {VERSION}")
    missing = [name for name in PRIVATE_METHODS if not hasattr(SyncObj, "_SyncObj" + name)]
    if missing:
        raise ImportError(f"pysyncobj {VERSION} lacks {', '.join(missing)}")


def _refuse(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("pickle is refused: no code runs from the network or the disk")


def _replace_world_and_pickle() -> None:
    library: Any = pysyncobj.syncobj
    library.monotonicTime = WORLD.monotonic
    library.random = WORLD
    refused = _PickleRefused()
    modules = [
        module
        for name, module in sorted(sys.modules.items())
        if name == "pysyncobj" or name.startswith("pysyncobj.")
    ]
    for module in modules:
        if hasattr(module, "pickle"):
            setattr(module, "pickle", refused)  # noqa: B010 - a module of another package
        # `journal` imports the functions by name.
        for function in ("load", "loads", "dump", "dumps"):
            if hasattr(module, function):
                setattr(module, function, _refuse)


_verify_release()
_replace_world_and_pickle()
