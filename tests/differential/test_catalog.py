"""A short form of `python -m tests.differential.run`, and that it knows every command."""

from __future__ import annotations

import pytest

from tests.differential.catalog import CATALOG
from tests.differential.run import both_protocols, compare
from tests.unit.server.test_command_table import TABLE


def test_every_command_of_the_store_is_drawn() -> None:
    # Redis 7.0 has neither the first two; the third is compared inside MULTI, and the few
    # scripts that are known in tests/unit/server/test_leases.py.
    ours = {"kv", "delex", "watch", "eval", "evalsha"}
    parsed = {spec.name.split("|")[0] for spec in TABLE.all() if hasattr(spec, "parse")}
    assert parsed - ours == set(CATALOG)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_requests_get_the_replies_of_redis(redis_server: str, seed: int) -> None:
    with both_protocols(redis_server) as sides:
        outcome = compare(sides, 6000, seed)
    assert outcome.hit_share >= 0.6
    assert outcome.transactions > 100
    assert set(outcome.calls) == set(CATALOG)
