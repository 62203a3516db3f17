"""A replicated key-value store on Raft that speaks the Redis protocol.

Owns the names that a user of the library imports. They are loaded when they
are first asked for, so that `raftkv --help` does not pay for the client and
the client does not pay for the server.

The list is pinned by tests/house/test_public_names.py; what the names do is
told in docs/reference/python-api.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftkv.client.async_client import AsyncClient as AsyncClient
    from raftkv.client.async_client import AsyncPipeline as AsyncPipeline
    from raftkv.client.async_lease import AsyncLease as AsyncLease
    from raftkv.client.async_watch import AsyncWatch as AsyncWatch
    from raftkv.client.recipes.async_recipes import AsyncBarrier as AsyncBarrier
    from raftkv.client.recipes.async_recipes import AsyncCounter as AsyncCounter
    from raftkv.client.recipes.async_recipes import AsyncElection as AsyncElection
    from raftkv.client.recipes.async_recipes import AsyncLock as AsyncLock
    from raftkv.client.recipes.async_recipes import AsyncQueue as AsyncQueue
    from raftkv.client.recipes.async_recipes import AsyncSemaphore as AsyncSemaphore
    from raftkv.client.recipes.sync_recipes import Barrier as Barrier
    from raftkv.client.recipes.sync_recipes import Counter as Counter
    from raftkv.client.recipes.sync_recipes import Election as Election
    from raftkv.client.recipes.sync_recipes import Lock as Lock
    from raftkv.client.recipes.sync_recipes import Queue as Queue
    from raftkv.client.recipes.sync_recipes import Semaphore as Semaphore
    from raftkv.client.sessions import Outcome as Outcome
    from raftkv.client.status import NodeStatus as NodeStatus
    from raftkv.client.sync_client import Client as Client
    from raftkv.client.sync_client import Pipeline as Pipeline
    from raftkv.client.sync_lease import Lease as Lease
    from raftkv.client.sync_watch import Watch as Watch
    from raftkv.client.transactions import Transaction as Transaction
    from raftkv.client.watching import Change as Change
    from raftkv.client.watching import WatchEvent as WatchEvent
    from raftkv.errors import CommandError as CommandError
    from raftkv.errors import CompactedError as CompactedError
    from raftkv.errors import ConnectFailedError as ConnectFailedError
    from raftkv.errors import ConnectionLostError as ConnectionLostError
    from raftkv.errors import DeadlineExceededError as DeadlineExceededError
    from raftkv.errors import DefiniteError as DefiniteError
    from raftkv.errors import IndefiniteError as IndefiniteError
    from raftkv.errors import LeaseLostError as LeaseLostError
    from raftkv.errors import LockTimeoutError as LockTimeoutError
    from raftkv.errors import NoLeaderError as NoLeaderError
    from raftkv.errors import NotAppliedError as NotAppliedError
    from raftkv.errors import NotLeaderError as NotLeaderError
    from raftkv.errors import OutcomeUnknownError as OutcomeUnknownError
    from raftkv.errors import ProtocolError as ProtocolError
    from raftkv.errors import RaftKvError as RaftKvError
    from raftkv.errors import RequestError as RequestError

__version__ = "0.1.0"

__all__ = [
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
]

_HOMES = {
    "AsyncBarrier": "raftkv.client.recipes.async_recipes",
    "AsyncClient": "raftkv.client.async_client",
    "AsyncCounter": "raftkv.client.recipes.async_recipes",
    "AsyncElection": "raftkv.client.recipes.async_recipes",
    "AsyncLease": "raftkv.client.async_lease",
    "AsyncLock": "raftkv.client.recipes.async_recipes",
    "AsyncPipeline": "raftkv.client.async_client",
    "AsyncQueue": "raftkv.client.recipes.async_recipes",
    "AsyncSemaphore": "raftkv.client.recipes.async_recipes",
    "AsyncWatch": "raftkv.client.async_watch",
    "Barrier": "raftkv.client.recipes.sync_recipes",
    "Change": "raftkv.client.watching",
    "Client": "raftkv.client.sync_client",
    "Counter": "raftkv.client.recipes.sync_recipes",
    "Election": "raftkv.client.recipes.sync_recipes",
    "Lease": "raftkv.client.sync_lease",
    "Lock": "raftkv.client.recipes.sync_recipes",
    "NodeStatus": "raftkv.client.status",
    "Outcome": "raftkv.client.sessions",
    "Pipeline": "raftkv.client.sync_client",
    "Queue": "raftkv.client.recipes.sync_recipes",
    "Semaphore": "raftkv.client.recipes.sync_recipes",
    "Transaction": "raftkv.client.transactions",
    "Watch": "raftkv.client.sync_watch",
    "WatchEvent": "raftkv.client.watching",
}


def __getattr__(name: str) -> object:
    """Load a public name at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOMES.get(name, "raftkv.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Show the public names, loaded or not."""
    return sorted({*globals(), *__all__})
