"""Settings that every test shares.

Owns the hypothesis profiles (`HYPOTHESIS_PROFILE=dev|ci|nightly`, 50, 500 and
20,000 examples) and the fixtures that hand out foreign programs. Fakes and
helpers live next to the tests that use them.
"""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.tools import require_tool

# A shell that starts the tests in the background has them ignore Ctrl-C, and every
# process that they start would inherit that, also those whose answer to it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The machine may be busy with other work, so a slow example says nothing.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=50, **_COMMON)
settings.register_profile("ci", max_examples=500, print_blob=True, **_COMMON)
settings.register_profile("nightly", max_examples=20_000, print_blob=True, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def redis_server() -> str:
    """Path of the redis-server program."""
    return require_tool("redis-server")


@pytest.fixture(scope="session")
def redis_cli() -> str:
    """Path of the redis-cli program."""
    return require_tool("redis-cli")


@pytest.fixture(scope="session")
def redis_benchmark() -> str:
    """Path of the redis-benchmark program."""
    return require_tool("redis-benchmark")


@pytest.fixture(scope="session")
def node() -> str:
    """Path of the Node.js program."""
    return require_tool("node")
