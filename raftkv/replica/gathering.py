"""When newcomers wait for what is on its way, so that batches grow with the load.

Each batch and each round of reads costs every node about the same, whatever it
carries, so few large ones cost less processor time a command than many small ones.
While many clients wait for one that is on its way, those who come meanwhile would
make the next one small: they are gathered until its fate is known. With few clients
there is little to gain, and nobody waits. A slow disk or link costs a newcomer no
more than `GATHER_MS`.

Those who were just answered often ask again at once. So while every pass of the loop
brings somebody, the next batch waits for those as well, for `RETURN_MS` at most.

Changes only when a command enters a step, never what becomes of it. Pure. Owner:
replica.replica. Tests: tests/unit/replica/test_gathering.py.
"""

from __future__ import annotations

# Below this many clients on their way newcomers do not wait for them. A single
# client that pipelines is one, however many commands it has in flight.
GATHER_CLIENTS_MIN = 8
# Longest wait of a newcomer: about a commit on fast disks. Where a commit takes far
# longer, the delay is small beside it.
GATHER_MS = 2
# Longest wait for those who were answered.
RETURN_MS = 1


class Gathering:
    """Whether newcomers wait.

    Attributes:
        active: As of the last call: they wait, and nobody has to be woken for them.
    """

    def __init__(self, clients_min: int = GATHER_CLIENTS_MIN) -> None:
        self.active = False
        self._clients_min = clients_min
        self._until_ms = 0
        self._return_until_ms = 0
        self._seen = 0

    @property
    def until_ms(self) -> int | None:
        """When newcomers have waited enough, or None while they do not wait."""
        return self._until_ms if self.active else None

    def begin(self, now_ms: int, clients: int) -> None:
        """Something left on behalf of so many clients."""
        self.active = clients >= self._clients_min
        self._until_ms = now_ms + GATHER_MS

    def goes_on(self, now_ms: int, *, under_way: bool) -> bool:
        """Look anew, and return whether newcomers wait.

        Args:
            now_ms: Monotonic time.
            under_way: The fate of something that left is not known yet.
        """
        if self.active and (not under_way or now_ms >= self._until_ms):
            self.active = False
        return self.active

    def ends(self, now_ms: int, *, under_way: bool) -> bool:
        """Look anew, and return whether newcomers waited and do so no longer."""
        if not self.active or self.goes_on(now_ms, under_way=under_way):
            return False
        self._return_until_ms = now_ms + RETURN_MS
        self._seen = 0
        return True

    def grows(self, now_ms: int, count: int) -> bool:
        """Say behind an end whether more have come since the last call.

        Args:
            now_ms: Monotonic time.
            count: How many newcomers there are.
        """
        if count > self._seen and now_ms < self._return_until_ms:
            self._seen = count
            return True
        self._return_until_ms = 0
        return False
