"""The two times that a leader stamps on every batch.

* Log time judges expiry. It is monotone, starts a term at the median wall
  clock of the quorum that elected the leader (never below what was stamped
  before), and then follows the leader's wall clock by slewing: a step of that
  clock neither kills nor freezes keys, and an error above a second is reported.
* Lease time counts only what passed while some leader led, so that an election
  never shortens a lease.

Pure arithmetic on clock readings that the caller passes in.
Owner: replica.replica. Tests: tests/unit/replica/test_log_time.py.
"""

from __future__ import annotations

# Log time runs at most this much faster or slower than the boot clock while it
# catches up with a stepped wall clock: an error of a minute is gone in ten.
SLEW_RATE = 0.1
ALARM_ERROR_MS = 1000


class LogTime:
    """Stamps of one term of one leader."""

    def __init__(
        self,
        *,
        log_time_ms: int,
        lease_time_ms: int,
        quorum_wall_ms: int,
        now_ms: int,
    ) -> None:
        """Start a term.

        Args:
            log_time_ms: Of the store.
            lease_time_ms: Of the store.
            quorum_wall_ms: Median wall clock of the electing quorum.
            now_ms: Boot clock.
        """
        self._log_time = float(max(log_time_ms, quorum_wall_ms))
        self._lease_base = lease_time_ms
        self._started_ms = now_ms
        self._read_ms = now_ms
        self.error_ms = 0

    def advance(self, now_ms: int, wall_ms: int) -> None:
        """Move log time along with the boot clock, slewed towards the wall clock."""
        elapsed = max(0, now_ms - self._read_ms)
        self._read_ms = max(self._read_ms, now_ms)
        steady = self._log_time + elapsed
        error = wall_ms - steady
        self.error_ms = int(error)
        room = elapsed * SLEW_RATE
        self._log_time = steady + max(-room, min(room, error))

    def catch_up(self, log_time_ms: int, lease_time_ms: int) -> None:
        """Go on from later times that were stamped before this term, where there are any.

        They come with the entries that were in the log, and not applied, when it began.
        Times that stayed below them would stand still in the log until they had caught
        up. What passes until they are applied is part of the gap that no leader counts.
        """
        self._log_time = max(self._log_time, float(log_time_ms))
        self._lease_base += max(0, lease_time_ms - self.lease_time_ms)

    @property
    def log_time_ms(self) -> int:
        """Log time as of the last `advance`."""
        return int(self._log_time)

    @property
    def lease_time_ms(self) -> int:
        """Lease time as of the last `advance`."""
        return self._lease_base + self._read_ms - self._started_ms
