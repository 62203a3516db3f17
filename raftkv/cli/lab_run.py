"""One run of `raftkv lab`: start, hurt and heal under load, judge.

Owns the order of things and what is measured: from the moment something is hurt until
the cluster is whole again, the longest time without an acknowledged write, and what the
clients were told. Output belongs to cli.lab_view, faults to cli.lab_scenarios.

A run fails when a promise is broken, when a node ends by itself, when nobody is elected
though the leader is gone, or when a healed cluster is not whole within a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, Protocol

from raftkv.cli.lab_cluster import LabCluster, LabNode
from raftkv.cli.lab_load import LabLoad, now_us
from raftkv.cli.lab_scenarios import Scenario
from raftkv.cli.lab_verdict import Check, Outcome
from raftkv.errors import RaftKvError

# A healed cluster is whole within a second or two; the machine may be busy.
_WHOLE_S_MAX = 60.0
_POLL_S = 0.05
# Silence of the clients that is worth a line: above any usual answer.
_SILENCE_US = 250_000
_FLOWING_WRITES = 10
_CALM_S = 0.7


class LabFailedError(RaftKvError):
    """The cluster did not do what it must; says what."""


class Story(Protocol):
    """Where the account of a run goes."""

    def chapter(self, number: int, count: int | None, scenario: Scenario) -> None:
        """Begin a scenario; `count` is None where the time decides."""

    def tell(self, kind: str, text: str) -> None:
        """Tell what happened, in a word and a line."""

    def explain(self, text: str) -> None:
        """Tell why."""

    def result(self, result: Result) -> None:
        """Tell what a scenario cost."""

    def verdict(self, results: Sequence[Result], checks: Sequence[Check]) -> None:
        """Tell what came of it all."""


class Result(NamedTuple):
    """What one scenario did to the clients.

    Attributes:
        scenario: Its name.
        gap_s: Longest time without an acknowledged write.
        acknowledged: Writes.
        unknown: Writes of which nobody can say whether they were executed.
        refused: Writes that were certainly not executed.
        terms: The term before and after.
    """

    scenario: str
    gap_s: float
    acknowledged: int
    unknown: int
    refused: int
    terms: tuple[int, int]


class LabRun:
    """Carries out scenarios; the `Stage` they stand on.

    Args:
        cluster: Started.
        load: Not started.
        story: Listens.
        source: Decides what is left to chance.
        hold_s: How long something hurts.

    Attributes:
        is_ending: Set from outside: nothing shall hurt any longer.
    """

    def __init__(
        self, cluster: LabCluster, load: LabLoad, story: Story, *, source: random.Random,
        hold_s: float,
    ) -> None:  # fmt: skip
        self.cluster = cluster
        self.load = load
        self.source = source
        self.is_ending = False
        self.results: list[Result] = []
        self._story = story
        self._hold_s = hold_s
        # When this scenario began.
        self._leader: LabNode | None = None
        self._term = 0

    # ----------------------------------------------------------------- the stage

    def hurt(self, text: str) -> None:
        """Tell what is done to the cluster; the next statement does it."""
        self._story.tell("hurt", text)

    def explain(self, text: str) -> None:
        """Tell why."""
        self._story.explain(text)

    def heal(self, text: str) -> None:
        """Tell what is mended; the next statement does it."""
        self._story.tell("heal", text)

    def leader(self) -> LabNode:
        """Who leads, or led when this scenario began."""
        leader = self.cluster.leader or self._leader
        assert leader is not None
        return leader

    async def hold(self) -> None:
        """Let it hurt for a while, or until the run is to end.

        Raises:
            LabFailedError: A node ended by itself.
        """
        end_s = time.monotonic() + self._hold_s
        while time.monotonic() < end_s and not self.is_ending:
            if self.cluster.failure:
                raise LabFailedError(self.cluster.failure)
            await asyncio.sleep(_POLL_S)

    async def hold_until_elected(self) -> None:
        """Let it hurt for a while, and on until somebody leads in a newer term than at first.

        Raises:
            LabFailedError: Nobody does within a minute, or a node ended by itself.
        """
        term = self._term

        def is_elected() -> bool:
            leader = self.cluster.leader
            return leader is not None and leader.status is not None and leader.status.term > term

        await self.hold()
        await self._wait_for(lambda: self.is_ending or is_elected(), "a new leader is elected")

    async def wait_until_whole(self) -> None:
        """Wait until every node follows one leader and writes are acknowledged.

        Raises:
            LabFailedError: They do not within a minute, or a node ended by itself.
        """
        goal = self.load.acknowledged + _FLOWING_WRITES
        await self._wait_for(
            lambda: self.cluster.is_whole and self.load.acknowledged >= goal,
            "every node follows one leader and writes are acknowledged",
        )

    async def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + _WHOLE_S_MAX
        while not condition():
            if self.cluster.failure:
                raise LabFailedError(self.cluster.failure)
            if time.monotonic() > end_s:
                raise LabFailedError(f"not within {_WHOLE_S_MAX:.0f} s: {what}")
            await asyncio.sleep(_POLL_S)

    # ------------------------------------------------------------------- the run

    async def begin(self, clients: int) -> None:
        """Wait for the first leader and let the clients begin."""
        names = ", ".join(node.id for node in self.cluster.nodes)
        self._story.tell(
            "start", f"{names} are started in {self.cluster.directory}; "
            "the links between them run through this command"
        )  # fmt: skip
        self._story.explain(
            "The first election of a new cluster waits for all of its nodes: with empty disks "
            "nobody can know whether something was forgotten."
        )
        self.cluster.changed = self._tell_leader
        await self._wait_for(lambda: self.cluster.is_whole, "the first election")
        self._story.tell(
            "load", f"{clients} clients write new keys and registers, read, and count; "
            "every answer is remembered"
        )  # fmt: skip
        self.load.start()
        await self.wait_until_whole()

    def _tell_leader(self, node: LabNode, term: int) -> None:
        count = f"{self.cluster.majority} of {len(self.cluster.nodes)}"
        self._story.tell("leader", f"{node.id} leads in term {term}, voted for by {count} or more")

    async def perform(self, number: int, count: int | None, scenario: Scenario) -> None:
        """Carry out one scenario and measure it.

        Raises:
            LabFailedError: The cluster is not whole afterwards.
        """
        self._story.chapter(number, count, scenario)
        await asyncio.sleep(_CALM_S)
        self._leader = self.cluster.leader or self._leader
        self._term = self.cluster.term
        before = (now_us(), dict(self.load.counts), self._term)
        async with self._flow_watched():
            await scenario.perform(self)
            await self.wait_until_whole()
        leader = self.leader()
        self._story.tell(
            "whole", f"every node follows {leader.id} in term {self.cluster.term} and has its log"
        )
        began_us, counts, term = before
        told = {one: self.load.counts[one] - counts.get(one, 0) for one in Outcome}
        self.results.append(
            Result(
                scenario.name, self.load.longest_gap(began_us, now_us()),
                told[Outcome.ACKNOWLEDGED], told[Outcome.UNKNOWN], told[Outcome.REFUSED],
                (term, self.cluster.term),
            )
        )  # fmt: skip
        self._story.result(self.results[-1])

    @contextlib.asynccontextmanager
    async def _flow_watched(self) -> AsyncIterator[None]:
        """Tell when writes stop being acknowledged, and when they are again."""
        watching = asyncio.create_task(self._watch_flow())
        try:
            yield
        finally:
            watching.cancel()

    async def _watch_flow(self) -> None:
        while True:
            last_us = self.load.last_acknowledged_us
            while now_us() - last_us < _SILENCE_US:
                await asyncio.sleep(_POLL_S / 5)
                last_us = self.load.last_acknowledged_us
            self._story.tell("silence", f"no write acknowledged for {_SILENCE_US / 1e6:.2f} s ...")
            while self.load.last_acknowledged_us == last_us:
                await asyncio.sleep(_POLL_S / 5)
            gap_s = self.load.longest_gap(last_us + 1, now_us())
            self._story.tell("flow", f"writes are acknowledged again, after {gap_s:.2f} s without")

    async def judge(self) -> list[Check]:
        """End the load, let all nodes agree, compare them, and judge the history.

        Raises:
            LabFailedError: They do not agree within a minute.
        """
        self._story.tell("judge", "the clients stop; everything is read once more on every node")
        await self.load.stop()
        agreed = await self._agree()
        nodes = {node.id: node.client for node in self.cluster.nodes}
        return [*await self.load.judge(nodes), agreed]

    async def _agree(self) -> Check:
        """Wait until every node has applied the same, and compare the hashes of their states."""
        end_s = time.monotonic() + _WHOLE_S_MAX
        while time.monotonic() < end_s:
            if self.cluster.failure:
                raise LabFailedError(self.cluster.failure)
            statuses = await self.cluster.ask_everybody()
            indexes = {status.fields.get("state_hash_index") for status in statuses}
            if not any(status.error for status in statuses) and len(indexes) == 1:
                hashes = {str(status.fields.get("state_hash")) for status in statuses}
                problems = () if len(hashes) == 1 else (f"different states: {', '.join(hashes)}",)
                return Check(
                    f"all {len(statuses)} nodes hold the same: state hash {min(hashes)} "
                    f"at index {indexes.pop()}",
                    problems,
                )
            await asyncio.sleep(_POLL_S)
        raise LabFailedError(f"not within {_WHOLE_S_MAX:.0f} s: every node applies the same")
