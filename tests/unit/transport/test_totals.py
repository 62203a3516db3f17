"""Totals never go down, whatever happens to links."""

from __future__ import annotations

from raftkv.transport.totals import PEER_METRICS
from tests.unit.transport.wiring import Cluster, make_nodes, run, until


def test_counters_have_the_documented_names_and_survive_their_links() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2)
        async with Cluster(first, second) as cluster:
            await cluster.linked()
            assert first.mesh.counters().keys() == PEER_METRICS.keys()
            first.send("n2", 1, bytes(100_000))
            await until(lambda: second.received("n1"))
            before = first.mesh.counters()
            assert before["bytes_sent_total"] > 100_000
            assert before["frames_sent_total"] == 1
            assert before["links"] == before["links_up_total"] == 1
            assert second.mesh.counters()["bytes_received_total"] > 100_000
            await second.mesh.stop()
            await until(lambda: first.downs)
            after = first.mesh.counters()
            assert after["links"] == 0
            assert after["links_down_total"] == 1
            for name in before:
                if name.endswith("_total"):
                    assert after[name] >= before[name], name

    run(scenario())
