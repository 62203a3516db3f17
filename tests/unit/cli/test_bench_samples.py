from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.cli.bench_samples import (
    WINDOWS_MAX,
    Samples,
    bucket_of,
    latency_us_of,
    merge,
    percentile_ms,
)


@given(st.integers(0, 2**40))
def test_a_bucket_is_within_a_thousandth_of_what_went_in(latency_us: int) -> None:
    assert abs(latency_us_of(bucket_of(latency_us)) - latency_us) <= latency_us / 1000


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_buckets_are_in_the_order_of_their_latencies(first: int, second: int) -> None:
    assert (bucket_of(first) < bucket_of(second)) <= (first < second)


def test_percentiles_are_those_of_the_sorted_list() -> None:
    chooser = random.Random(1)
    latencies = [chooser.randrange(2000) for _ in range(1000)]
    samples = Samples(0.0)
    for latency in latencies:
        samples.add(1.0, 1.0 + (latency + 0.5) / 1e6, 1)
    latencies.sort()
    for percent in (0.1, 50, 99, 99.9, 100):
        place = max(0, round(percent * 10) - 1)
        assert percentile_ms(samples.histogram, percent) == latencies[place] / 1000


def test_nothing_measured_is_nothing_divided() -> None:
    samples = Samples(0.0)
    assert set(samples.latency_ms().values()) == {0.0}
    assert samples.timeline()["rate"] == []
    assert samples.stall_report()["count"] == 0
    assert samples.succeeded == 0


def test_the_timeline_counts_by_the_time_of_the_reply() -> None:
    samples = Samples(100.0)
    samples.add(100.0, 100.05, 3)
    samples.add(100.0, 100.25, 5)
    timeline = samples.timeline()
    assert timeline["window_s"] == 0.1
    assert timeline["rate"] == [30.0, 0.0, 50.0]
    assert timeline["max_ms"] == [pytest.approx(50, rel=1e-3), 0.0, pytest.approx(250, rel=1e-3)]


def test_a_long_run_has_wider_windows_and_loses_nothing() -> None:
    samples = Samples(0.0)
    for second in range(1000):
        samples.add(second, second + 0.001, 2)
    assert len(samples.windows) <= WINDOWS_MAX
    assert samples.window_s == 1.6
    assert samples.succeeded == 2000
    rates = samples.timeline()["rate"]
    assert sum(rates) * samples.window_s == pytest.approx(2000, rel=0.1)
    assert max(rates) * samples.window_s == pytest.approx(4, rel=0.1)


def test_requests_that_wait_together_are_one_stall() -> None:
    samples = Samples(0.0)
    samples.add(1.00, 1.02, 1)
    samples.add(2.00, 2.10, 1)
    samples.add(2.05, 2.12, 1)
    samples.add(3.00, 3.06, 1)
    assert samples.stalls == [(2.00, 2.12), (3.00, 3.06)]
    # This one has waited since before both.
    samples.add(1.50, 3.10, 1)
    assert samples.stalls == [(1.50, 3.10)]
    report = samples.stall_report()
    assert (report["count"], report["longest_ms"], report["began_s"]) == (1, 1600.0, [1.5])


def test_an_outage_is_a_stall_however_fast_it_refuses() -> None:
    samples = Samples(0.0)
    samples.add(1.00, 1.01, 1)
    # One refused request among others is none.
    samples.add_error("OOM", 1.01)
    samples.add(1.02, 1.03, 1)
    assert samples.stalls == []
    for number in range(30):
        samples.add_error("CLUSTERDOWN", 2.0 + number / 100)
    samples.add(2.3, 2.31, 1)
    samples.add(2.4, 2.41, 1)
    assert samples.stalls == [(2.0, 2.31)]
    # One that never ends lasts until the end of the run.
    samples.add_error("not sent", 5.0, 7)
    samples.end(8.0)
    assert samples.stalls == [(2.0, 2.31), (5.0, 8.0)]


def test_sums_of_histograms() -> None:
    assert merge([{1: 2, 5: 1}, {}, {5: 3}]) == {1: 2, 5: 4}


def test_no_percentile_is_above_the_longest() -> None:
    samples = Samples(0.0)
    samples.add(0.0, 0.030_866_3, 1)
    said = samples.latency_ms()
    assert said["p50"] == said["p99_9"] == said["max"]
