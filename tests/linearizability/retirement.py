"""When a workload leaves a key alone, so that its history stays decidable.

To judge a history is exponential in what is open at once, and an operation of
unknown outcome stays open for ever. So no key gets more than 200 operations or
goes on after 8 unknown ones: the slot it filled gets a fresh key. Operations in
flight at that moment still end on the old key, so a key may end with as many
unknowns more as the workload has clients.

Pure: no clock, no dice. The generators of the simulator and of the chaos scripts
ask it for every key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.linearizability.history import Outcome

OPERATIONS_MAX = 200
UNKNOWNS_MAX = 8


@dataclass(slots=True)
class _Use:
    slot: int
    operations: int = 0
    unknowns: int = 0


@dataclass(slots=True)
class KeyRetirement:
    """Hands out the key that a slot stands for just now.

    Args:
        prefix: Of every key; `k` gives `k:0:0`, the slot and the generation.
        operations_max: After so many begun operations a key is retired.
        unknowns_max: After so many of unknown outcome, too.
    """

    prefix: str
    operations_max: int = OPERATIONS_MAX
    unknowns_max: int = UNKNOWNS_MAX
    _generations: dict[int, int] = field(default_factory=dict)
    _uses: dict[str, _Use] = field(default_factory=dict)

    def begin(self, slot: int) -> str:
        """Return the key for the next operation on a slot and count it."""
        key = self.key(slot)
        use = self._uses.setdefault(key, _Use(slot))
        use.operations += 1
        if use.operations >= self.operations_max:
            self._retire(use, key)
        return key

    def end(self, key: str, outcome: Outcome) -> None:
        """Count how an operation ended; the key may be retired already."""
        if outcome is Outcome.UNKNOWN:
            use = self._uses[key]
            use.unknowns += 1
            if use.unknowns >= self.unknowns_max:
                self._retire(use, key)

    def key(self, slot: int) -> str:
        """Return the key of a slot without counting anything."""
        return f"{self.prefix}:{slot}:{self._generations.get(slot, 0)}"

    def keys(self) -> tuple[str, ...]:
        """Return every key that was ever begun, for the reads at the end of a run."""
        return tuple(self._uses)

    def _retire(self, use: _Use, key: str) -> None:
        if self.key(use.slot) == key:
            self._generations[use.slot] = self._generations.get(use.slot, 0) + 1
