"""What a replica needs from its surroundings, and how it says that it stopped.

Types only, beside the mapping from the error that stopped a replica to the exit
code of its node.

Users: replica.replica, node, tests/sim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from raftkv.errors import DamagedDataError, DiskFullError, IdentityRefusedError

EXIT_DAMAGED = 3
EXIT_INTERNAL = 6
EXIT_REFUSED = 7


class RandomSource(Protocol):
    """Jitter of elections, and seeds of batches."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...

    def getrandbits(self, count: int, /) -> int:
        """Return a number of that many bits."""
        ...


class Listener(Protocol):
    """Who serves this replica's clients."""

    def leader_changed(self) -> None:
        """Role, term or known leader are other ones."""
        ...

    def accepting_changed(self) -> None:
        """`Replica.accepting` is another one."""
        ...

    def turn_ended(self) -> None:
        """Every slot that this turn could fill is filled."""
        ...


class Collector(Protocol):
    """Who looks for cycles among the objects of this process."""

    def before_bulk(self) -> None:
        """Very many objects will be made that are in no cycle."""
        ...

    def after_bulk(self) -> None:
        """They are made."""
        ...


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a replica does nothing any more.

    Attributes:
        exit_code: As design and CLI reference list them.
        reason: For people; one or more lines.
        orderly: Nothing is wrong with this node: it may answer, sync and say
            goodbye as at any other end.
    """

    exit_code: int
    reason: str
    orderly: bool = False


def stopped_by(error: BaseException) -> Stopped:
    """Say how a node ends that this error has stopped."""
    if isinstance(error, DamagedDataError):
        return Stopped(EXIT_DAMAGED, f"{error}\n{error.advice}".rstrip())
    if isinstance(error, IdentityRefusedError):
        return Stopped(EXIT_REFUSED, str(error))
    if isinstance(error, DiskFullError):
        return Stopped(EXIT_INTERNAL, f"no space where it was promised: {error}")
    return Stopped(EXIT_INTERNAL, f"{type(error).__name__}: {error}")
