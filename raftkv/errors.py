"""Every error that crosses a layer.

    RaftKvError
    +-- ConfigError                    bad settings; lists all problems at once
    +-- ProtocolError                  bytes from outside that are not the protocol
    +-- RequestError                   what a client of the cluster gets
    |   +-- DefiniteError              certainly not executed: a retry is safe
    |   |   +-- CommandError           the reply of Redis: ERR, WRONGTYPE, ...
    |   |   +-- NotLeaderError         MOVED: another node leads
    |   |   +-- NoLeaderError          CLUSTERDOWN: nobody leads, nothing was proposed
    |   |   +-- NotAppliedError        NOTAPPLIED <reason>
    |   |   +-- CompactedError         a revision that is not held any more
    |   |   +-- ConnectFailedError     no node could be reached; nothing was sent
    |   +-- IndefiniteError            perhaps executed: the caller must decide
    |       +-- OutcomeUnknownError    UNKNOWN <reason>
    |       +-- ConnectionLostError    the connection ended before the reply
    |       +-- DeadlineExceededError  no reply in time after the request was sent
    +-- StorageError                   stops the node
        +-- DamagedDataError           file, position and advice; exit code 3
        +-- DiskFailedError            a write or fsync failed; exit code 6
        +-- DirectoryInUseError        another process holds it; exit code 4
        +-- DiskFullError              no space to take; a state, not a failure
    +-- IdentityRefusedError           not a member, or another cluster; exit code 7
    +-- LeaseLostError                 what was held depends on a lease that is over
    +-- LockTimeoutError               others held it all the time that was waited

A definite error promises that the command has not been executed and never will
be. An indefinite one promises nothing. Source: the distinction follows the
error vocabulary of Maelstrom's protocol.
"""

from __future__ import annotations


class RaftKvError(Exception):
    """Base of all errors of this package."""


class ConfigError(RaftKvError):
    """Settings that cannot be used.

    Attributes:
        problems: One sentence each, starting with the key path.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ProtocolError(RaftKvError):
    """Bytes from a client or a peer that do not follow the protocol."""


class RequestError(RaftKvError):
    """A request was not answered with a result.

    Attributes:
        session: Of the write, where its outcome is unknown and can be asked for.
        number: Of the write in that session.
    """

    session: int | None = None
    number: int | None = None


class DefiniteError(RequestError):
    """The request was certainly not executed; sending it again is safe."""


class CommandError(DefiniteError):
    """The cluster refused the command with an error of Redis.

    Attributes:
        message: Whole text, starting with the code word (`ERR`, `WRONGTYPE`, ...).
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def code(self) -> str:
        """First word of the text."""
        return self.message.split(" ", 1)[0]


class NotLeaderError(DefiniteError):
    """The node asked does not lead.

    Attributes:
        address: `host:port` of the leader, as far as that node knows.
    """

    def __init__(self, address: str) -> None:
        super().__init__(f"the leader is at {address}")
        self.address = address


class NoLeaderError(DefiniteError):
    """No leader was elected in time; nothing was proposed."""


class NotAppliedError(DefiniteError):
    """The cluster says that the command was not and will not be applied."""


class CompactedError(DefiniteError):
    """What is asked for, or was still to be told, is no longer in the history.

    Attributes:
        oldest: First revision that is held.
        reached: Last revision that was told before.
    """

    def __init__(self, oldest: int, *, reached: int = 0) -> None:
        super().__init__(f"revisions below {oldest} are compacted")
        self.oldest = oldest
        self.reached = reached


class ConnectFailedError(DefiniteError):
    """No node could be reached; nothing was sent."""


class IndefiniteError(RequestError):
    """The request may or may not have been executed."""


class OutcomeUnknownError(IndefiniteError):
    """The cluster says that it cannot know whether the command was applied."""


class ConnectionLostError(IndefiniteError):
    """The connection ended after the request was sent and before its reply."""


class DeadlineExceededError(IndefiniteError):
    """No reply came before the deadline although the request was sent."""


class StorageError(RaftKvError):
    """The disk or what is on it cannot be trusted; the node stops."""


class DamagedDataError(StorageError):
    """Data that was durable has changed or is missing.

    Attributes:
        file: Path of the damaged file.
        position: Byte position in it.
        detail: What is wrong there.
        advice: What the operator can do.
    """

    def __init__(self, file: str, position: int, detail: str, advice: str = "") -> None:
        super().__init__(f"{file}, byte {position}: {detail}")
        self.file = file
        self.position = position
        self.detail = detail
        self.advice = advice


class DiskFailedError(StorageError):
    """A write or fsync failed. It is never retried: the page may be gone."""


class DirectoryInUseError(StorageError):
    """Another process holds the data directory."""


class DiskFullError(StorageError):
    """No space could be taken; nothing was written."""


class LeaseLostError(RaftKvError):
    """A lease is over, and whatever was held by it: somebody else may hold it by now."""


class LockTimeoutError(RaftKvError):
    """Others held a lock, or all permits, as long as was waited."""


class IdentityRefusedError(RaftKvError):
    """The cluster refuses this node: removed, another disk, or another cluster."""
