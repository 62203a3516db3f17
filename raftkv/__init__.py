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
    from raftkv.client.async_watch import AsyncWatch as AsyncWatch
    from raftkv.client.sessions import Outcome as Outcome
    from raftkv.client.status import NodeStatus as NodeStatus
    from raftkv.client.sync_client import Client as Client
    from raftkv.client.sync_client import Pipeline as Pipeline
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
    from raftkv.errors import NoLeaderError as NoLeaderError
    from raftkv.errors import NotAppliedError as NotAppliedError
    from raftkv.errors import NotLeaderError as NotLeaderError
    from raftkv.errors import OutcomeUnknownError as OutcomeUnknownError
    from raftkv.errors import ProtocolError as ProtocolError
    from raftkv.errors import RaftKvError as RaftKvError
    from raftkv.errors import RequestError as RequestError

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncPipeline",
    "AsyncWatch",
    "Change",
    "Client",
    "CommandError",
    "CompactedError",
    "ConnectFailedError",
    "ConnectionLostError",
    "DeadlineExceededError",
    "DefiniteError",
    "IndefiniteError",
    "NoLeaderError",
    "NodeStatus",
    "NotAppliedError",
    "NotLeaderError",
    "Outcome",
    "OutcomeUnknownError",
    "Pipeline",
    "ProtocolError",
    "RaftKvError",
    "RequestError",
    "Transaction",
    "Watch",
    "WatchEvent",
    "__version__",
]

_HOMES = {
    "AsyncClient": "raftkv.client.async_client",
    "AsyncPipeline": "raftkv.client.async_client",
    "AsyncWatch": "raftkv.client.async_watch",
    "Change": "raftkv.client.watching",
    "Client": "raftkv.client.sync_client",
    "NodeStatus": "raftkv.client.status",
    "Outcome": "raftkv.client.sessions",
    "Pipeline": "raftkv.client.sync_client",
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
