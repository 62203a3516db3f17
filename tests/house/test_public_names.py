"""The names a user may import are pinned: taking one away breaks somebody's program."""

from __future__ import annotations

import subprocess
import sys

import pytest

import raftkv

PUBLIC_NAMES = {
    "AsyncBarrier",
    "AsyncClient",
    "AsyncCounter",
    "AsyncElection",
    "AsyncLease",
    "AsyncLock",
    "AsyncPipeline",
    "AsyncQueue",
    "AsyncSemaphore",
    "AsyncWatch",
    "Barrier",
    "Change",
    "Client",
    "CommandError",
    "CompactedError",
    "ConnectFailedError",
    "ConnectionLostError",
    "Counter",
    "DeadlineExceededError",
    "DefiniteError",
    "Election",
    "IndefiniteError",
    "Lease",
    "LeaseLostError",
    "Lock",
    "LockTimeoutError",
    "NoLeaderError",
    "NodeStatus",
    "NotAppliedError",
    "NotLeaderError",
    "Outcome",
    "OutcomeUnknownError",
    "Pipeline",
    "ProtocolError",
    "Queue",
    "RaftKvError",
    "RequestError",
    "Semaphore",
    "Transaction",
    "Watch",
    "WatchEvent",
    "__version__",
}


def test_the_list_is_the_pinned_one() -> None:
    assert set(raftkv.__all__) == PUBLIC_NAMES
    assert len(raftkv.__all__) == len(PUBLIC_NAMES)


@pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
def test_each_name_can_be_had_and_is_itself(name: str) -> None:
    value = getattr(raftkv, name)
    assert name == "__version__" or value.__name__ == name
    assert name in dir(raftkv)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Cluster'"):
        raftkv.Cluster  # noqa: B018 - the access is what is tested


def test_the_package_loads_nothing_by_itself() -> None:
    program = "import sys, raftkv; print(*(m for m in sys.modules if m.startswith('raftkv.')))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert result.stdout.split() == []
