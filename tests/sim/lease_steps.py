"""What simulated clients ask about leases: a key that one of them holds at a time.

Each take has a lease of its own. Clients renew, revoke and ask for the leases of the
last few takes, their own and those of others, alive or not.
"""

from __future__ import annotations

from typing import Any

from raftkv.kv.commands import Command, CompareTarget, Comparison, Opcode
from tests.linearizability.history import Value
from tests.sim.steps import Mix, Step, Steps, on_key, plain

_LEASES_MAX = 10_000
_KEYS_MAX = 100
_REMEMBERED = 3


class LeaseSteps(Steps):
    """Takes, keeps and gives back a key."""

    def __init__(self, dice: Any) -> None:
        super().__init__(dice)
        self._taken: dict[str, list[tuple[int, int]]] = {}
        self._leases = 0

    def families(self) -> dict[str, Mix]:
        """See `Steps`."""
        return {
            "leased": [
                (self._take, 30), (self._get, 26), (self._keep, 20), (self._revoke, 8),
                (self._ttl, 4), (self._list, 3), (self._detach, 2), (self._put, 2),
                (self._del, 2), (self._exists, 2),
            ]
        }  # fmt: skip

    def last_reads(self, family: str, key: str) -> list[Step]:
        """See `Steps`."""
        return [self._get(key)]

    def _a_lease(self, key: str) -> tuple[int, int]:
        """Return id and time to live of one of the last takes."""
        return self._dice.choice(self._taken.get(key) or [(2**50, 1000)])

    def _take(self, key: str) -> Step:
        self._leases += 1
        # Ids of one family of keys differ from those of all others.
        lease_id = (hash_of(key) << 20) + self._leases
        ttl_ms = self._dice.choice((200, 800, 3000))
        self._taken[key] = [*self._taken.get(key, [])[1 - _REMEMBERED :], (lease_id, ttl_ms)]
        name, value = key.encode(), self._value()
        taking: list[Command] = [
            (Opcode.LEASE_GRANT, ttl_ms, lease_id, _LEASES_MAX),
            (Opcode.LEASE_SET, lease_id, _KEYS_MAX, 0, None, name, value.encode(),
             0, None, None, b"set"),
            (Opcode.LEASE_ATTACH, lease_id, _KEYS_MAX, name),
        ]  # fmt: skip
        compare = (name, CompareTarget.EXISTS, Comparison.EQUAL, 0)
        command = (
            *(Opcode.TXN, 1, *compare),
            *_counted(taking),
            *_counted([(Opcode.GET, name)]),
        )

        def told(reply: Any) -> Value:
            if not reply[0]:
                return plain(reply[1][0])
            return "OK" if plain(reply[1]) == (lease_id, "OK", 1) else plain(reply[1])

        return on_key("leasetake", key, (value, lease_id, ttl_ms), command, told)

    def _get(self, key: str) -> Step:
        return on_key("leaseget", key, (), (Opcode.GET, key.encode()))

    def _put(self, key: str) -> Step:
        value = self._value()
        return on_key("leaseput", key, (value,), (Opcode.SET, key.encode(), value.encode()))

    def _keep(self, key: str) -> Step:
        lease_id, ttl_ms = self._a_lease(key)
        return on_key("leasekeep", key, (lease_id, ttl_ms), (Opcode.LEASE_KEEPALIVE, lease_id))

    def _revoke(self, key: str) -> Step:
        lease_id, _ = self._a_lease(key)
        return on_key("leaserevoke", key, (lease_id,), (Opcode.LEASE_REVOKE, lease_id))

    def _detach(self, key: str) -> Step:
        return on_key("leasedetach", key, (), (Opcode.LEASE_DETACH, key.encode()))

    def _ttl(self, key: str) -> Step:
        lease_id, _ = self._a_lease(key)
        command = (Opcode.LEASE_TTL, lease_id, 1)
        return on_key("leasealive", key, (lease_id,), command, lambda reply: int(bool(reply)))

    def _list(self, key: str) -> Step:
        lease_id, _ = self._a_lease(key)
        command = (Opcode.LEASE_LIST, lease_id - 1, 1)
        return on_key("leasealive", key, (lease_id,), command, lambda ids: int(lease_id in ids))


def hash_of(key: str) -> int:
    """Return a small number that tells keys apart, in every process the same."""
    number = 0
    for letter in key.encode():
        number = (number * 257 + letter) % 2**31
    return number


def _counted(commands: list[Command]) -> Command:
    words: list[Any] = [len(commands)]
    for command in commands:
        words += (len(command), *command)
    return tuple(words)
