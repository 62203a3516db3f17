"""What a load run measured: latencies, throughput over time, stalls, errors.

Owns the histogram (exact below 2 ms, else within 0.1 %) and the numbers made from
it. Memory is bounded whatever the run does: a histogram has as many entries as
there are different latencies, the windows of the timeline grow wider once there
are many of them, and stalls that overlap are one.

A stall is a stretch of time in which some request waited longer than `STALL_S` for a
result; a failed one waits until the next result of any, so that an outage counts
however fast it refuses. Requests that wait at the same time belong to the same stall.

Users: cli.bench_load fills it, cli.bench writes it. No I/O, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

# What nobody should wait for on a healthy cluster of machines side by side.
STALL_S = 0.05
WINDOWS_MAX = 1200
WINDOW_S_FIRST = 0.1
_EXACT_BITS = 11
_EXACT_END = 1 << _EXACT_BITS
_HALF = _EXACT_END >> 1
PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}

Histogram = dict[int, int]  # bucket -> count


def bucket_of(latency_us: int) -> int:
    """Return the bucket of a latency in microseconds."""
    if latency_us < _EXACT_END:
        return latency_us
    shift = latency_us.bit_length() - _EXACT_BITS
    return shift * _HALF + (latency_us >> shift)


def latency_us_of(bucket: int) -> float:
    """Return the middle of a bucket in microseconds."""
    if bucket < _EXACT_END:
        return float(bucket)
    shift = bucket // _HALF - 1
    return float((bucket - shift * _HALF << shift) + (1 << shift - 1))


def percentile_ms(histogram: Histogram, percent: float) -> float:
    """Return the latency in ms that `percent` of the requests did not exceed; 0 without any."""
    wanted = max(1, math.ceil(sum(histogram.values()) * percent / 100))
    for bucket in sorted(histogram):
        wanted -= histogram[bucket]
        if wanted <= 0:
            return latency_us_of(bucket) / 1000
    return 0.0


def merge(histograms: list[Histogram]) -> Histogram:
    """Return the sum of some histograms."""
    merged: Histogram = {}
    for histogram in histograms:
        for bucket, count in histogram.items():
            merged[bucket] = merged.get(bucket, 0) + count
    return merged


@dataclass(slots=True)
class Samples:
    """What was measured so far.

    Attributes:
        begin_s: Time of the first request, on the clock of the caller.
        windows: One histogram for each `window_s` since then, by time of the reply.
        errors: How often each first word of an error was received, or a name of
            ours in lower case where there was no reply.
        misses: Reads that found no key.
        longest_s: Longest latency.
        stalls: Begin and end of each, in order.
    """

    begin_s: float
    window_s: float = WINDOW_S_FIRST
    windows: list[Histogram] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    misses: int = 0
    longest_s: float = 0.0
    stalls: list[tuple[float, float]] = field(default_factory=list)
    _failing_since_s: float | None = None

    def add(self, asked_s: float, answered_s: float, count: int) -> None:
        """Count requests that were asked and answered at the same times."""
        waited_s = answered_s - asked_s
        number = int((answered_s - self.begin_s) / self.window_s)
        windows = self.windows
        if number >= len(windows):
            number = self._open_windows(number)
        bucket = bucket_of(int(waited_s * 1e6))
        window = windows[number]
        window[bucket] = window.get(bucket, 0) + count
        if waited_s > self.longest_s:
            self.longest_s = waited_s
        if self._failing_since_s is not None:
            asked_s = min(asked_s, self._failing_since_s)
            self._failing_since_s = None
        self._add_stall(asked_s, answered_s)

    def add_error(self, kind: str, asked_s: float, count: int = 1) -> None:
        """Count requests without a result that were asked at the same time."""
        self.errors[kind] = self.errors.get(kind, 0) + count
        if self._failing_since_s is None or asked_s < self._failing_since_s:
            self._failing_since_s = asked_s

    def end(self, end_s: float) -> None:
        """Count what failed last as waiting until the end of the run."""
        if self._failing_since_s is not None:
            self._add_stall(self._failing_since_s, end_s)

    def _open_windows(self, number: int) -> int:
        while number >= WINDOWS_MAX:
            pairs = range(0, len(self.windows), 2)
            self.windows[:] = [merge(self.windows[first : first + 2]) for first in pairs]
            self.window_s *= 2
            number //= 2
        while len(self.windows) <= number:
            self.windows.append({})
        return number

    def _add_stall(self, asked_s: float, answered_s: float) -> None:
        if answered_s - asked_s <= STALL_S:
            return
        while self.stalls and asked_s <= self.stalls[-1][1]:
            asked_s = min(asked_s, self.stalls.pop()[0])
        self.stalls.append((asked_s, answered_s))

    @property
    def histogram(self) -> Histogram:
        """All latencies."""
        return merge(self.windows)

    @property
    def succeeded(self) -> int:
        """Requests that were answered with a result."""
        return sum(sum(window.values()) for window in self.windows)

    def latency_ms(self) -> dict[str, float]:
        """Return mean, percentiles and the longest latency in milliseconds."""
        histogram = self.histogram
        count = sum(histogram.values())
        total_us = sum(latency_us_of(bucket) * number for bucket, number in histogram.items())
        found = {"mean": round(total_us / count / 1000, 4) if count else 0.0}
        longest_ms = self.longest_s * 1000
        for name, percent in PERCENTILES.items():
            # The middle of a bucket may lie above everything in it.
            found[name] = round(min(percentile_ms(histogram, percent), longest_ms), 4)
        return found | {"max": round(longest_ms, 4)}

    def timeline(self) -> dict[str, Any]:
        """Return throughput and latencies of each window."""
        return {
            "window_s": self.window_s,
            "rate": [round(sum(one.values()) / self.window_s, 1) for one in self.windows],
            "p50_ms": [round(percentile_ms(one, 50), 3) for one in self.windows],
            "p99_ms": [round(percentile_ms(one, 99), 3) for one in self.windows],
            "max_ms": [round(percentile_ms(one, 100), 3) for one in self.windows],
        }

    def stall_report(self) -> dict[str, Any]:
        """Return how many stalls there were, and how long the longest was."""
        lengths = [end_s - begin_s for begin_s, end_s in self.stalls]
        return {
            "over_ms": STALL_S * 1000,
            "count": len(lengths),
            "longest_ms": round(max(lengths, default=0.0) * 1000, 1),
            "began_s": [round(begin_s - self.begin_s, 3) for begin_s, _ in self.stalls[:100]],
        }
