"""What a correct store would answer about a key that is held by a lease, as a lock is.

Each take of the key has a lease of its own, whose id nobody uses again. So while the key
is bound, its lease lives exactly as long as the key; of other leases a client cannot know
whether they still live without a key. See `models` for the table of kinds.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.linearizability.cells import Cell, Effect, ImpossibleError, Kind, Window
from tests.linearizability.history import Value

NO_LEASE = "NOLEASE no such lease"
_NO_ID = 0


def _held(cell: Cell | None) -> tuple[str, int]:
    """Return value and lease of a key."""
    if cell is None or not isinstance(cell.value, tuple) or cell.value[0] != "leased":
        raise ImpossibleError
    value, lease_id = cell.value[1]
    return str(value), int(lease_id)


def _is_held_by(cell: Cell | None, lease_id: Value) -> bool:
    return cell is not None and _held(cell)[1] == lease_id


def _take(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect:
    value, lease_id, ttl_ms = arguments
    if cell is not None:
        return cell, _held(cell)[0]
    assert isinstance(ttl_ms, int)
    return window.lease_deadline(("leased", (value, lease_id)), ttl_ms), "OK"


def _get(cell: Cell | None, _: Sequence[Value], __: Window) -> Effect:
    return cell, None if cell is None else _held(cell)[0]


def _put(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
    """A plain SET, which takes the key from its lease."""
    return Cell(("leased", (arguments[0], _NO_ID))), "OK"


def _keep(cell: Cell | None, arguments: Sequence[Value], window: Window) -> Effect | list[Effect]:
    lease_id, ttl_ms = arguments
    assert isinstance(ttl_ms, int)
    if not _is_held_by(cell, lease_id):
        return [(cell, ttl_ms), (cell, NO_LEASE)]
    assert cell is not None
    return window.lease_deadline(cell.value, ttl_ms), ttl_ms


def _revoke(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect | list[Effect]:
    if _is_held_by(cell, arguments[0]):
        return None, 1
    return [(cell, 0), (cell, NO_LEASE)]


def _detach(cell: Cell | None, _: Sequence[Value], __: Window) -> Effect:
    if cell is None or _held(cell)[1] == _NO_ID:
        return cell, 0
    return Cell(("leased", (_held(cell)[0], _NO_ID))), 1


def _is_alive(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect | list[Effect]:
    if _is_held_by(cell, arguments[0]):
        return cell, 1
    return [(cell, 0), (cell, 1)]


LEASE_KINDS: dict[str, Kind] = {
    "leasetake": Kind(_take, 3, 3),
    "leaseget": Kind(_get, idle_results=None),
    "leaseput": Kind(_put, 1, 1),
    "leasekeep": Kind(_keep, 2, 2, (NO_LEASE,)),
    "leaserevoke": Kind(_revoke, 1, 1, (0, NO_LEASE)),
    "leasedetach": Kind(_detach, idle_results=(0,)),
    "leasealive": Kind(_is_alive, 1, 1, None),
}
