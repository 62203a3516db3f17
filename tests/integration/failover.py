"""Clients that count while their cluster loses its leader, and what each of them met.

Every client has one counter, which nobody else touches. All of them live through the same
run: the leader is killed, it returns, the next leader hands over, and where a client knows
one node only, that node is killed, too. After each the run waits until every client has been
answered anew by itself.

What must hold of every client: no acknowledged call is lost and none is counted twice, and
what it was told of the others is one of the errors that its users know.

    python -m tests.integration.failover      # how long and which errors, for the page
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.integration.cluster import ROOT, Cluster, ClusterNode
from tests.integration.python_clients import PYTHON_CLIENTS, SENTINEL_NAME
from tests.tools import has_node_package, node_path

NODE_PROGRAM = Path(__file__).with_name("node_clients.js")
NODE_CLIENTS = {
    "ioredis": "ioredis",
    "ioredis cluster": "ioredis",
    "ioredis sentinel": "ioredis",
    "node-redis": "redis",
    "node-redis cluster": "redis",
    "node-redis sentinel": "redis",
}

# Redirected clients follow the leader; the others are carried by the node that they ask.
REDIRECTED = tuple(kind for kind in (*PYTHON_CLIENTS, *NODE_CLIENTS) if "cluster" in kind)
PROXIED = tuple(kind for kind in (*PYTHON_CLIENTS, *NODE_CLIENTS) if "cluster" not in kind)

# What users of these libraries look for when a server is gone, and what raftkv says of a
# call that was under way or could not be carried out.
_LOST = (
    "(ConnectionError|TimeoutError|BusyLoadingError|MasterNotFoundError"
    "|Error: (Connection is closed|(read|write|connect) E[A-Z]+)|MaxRetriesPerRequestError"
    "|SocketClosedUnexpectedlyError|DisconnectsClientError|ClientOfflineError)"
)
_REFUSED = (
    "(ResponseError|SimpleError|ReplyError|ErrorReply|ClusterDownError): "
    "(UNKNOWN|NOTAPPLIED|CLUSTERDOWN|no leader elected)"
)
EXPECTED_ERROR = re.compile(f"{_LOST}|{_REFUSED}")

BRIDGE_LIMIT_S = 30.0
# Calls which a client makes before the first fault, and behind each of them.
CALLS = 10
PAUSE_S = 0.01


def knows_one_node(kind: str) -> bool:
    """Whether a client connects to the node it was told and to no other."""
    return "cluster" not in kind and "sentinel" not in kind


class Diary:
    """What one client met; written by the thread that hears the client, read by the run.

    Attributes:
        kind: The client.
        counter: Key that it counts in.
        answers: Number that a call returned, and when (seconds of the monotonic clock).
        failures: Text of an error, and when.
        used_types: Whether each type of value gave what it should.
        read: What the client read from its counter at the end.
        defect: Why it ended early.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.counter = "counter:" + kind.replace(" ", "_")
        self.answers: list[tuple[float, int]] = []
        self.failures: list[tuple[float, str]] = []
        self.used_types = False
        self.read: str | None = None
        self.defect: str | None = None

    def answer(self, number: int) -> None:
        self.answers.append((time.monotonic(), number))

    def fail(self, text: str) -> None:
        self.failures.append((time.monotonic(), text))

    def answers_since(self, start_s: float) -> int:
        return sum(at_s >= start_s for at_s, _ in self.answers)

    def longest_gap_s(self, start_s: float, end_s: float) -> float:
        """Return the longest time between two answers of which the second is in a span."""
        times = [at_s for at_s, _ in self.answers if at_s < end_s]
        pairs = itertools.pairwise(times)
        return max((later - sooner for sooner, later in pairs if later >= start_s), default=0.0)

    def errors(self, start_s: float, end_s: float) -> Counter[str]:
        """Return the errors within a span, by their text."""
        return Counter(text for at_s, text in self.failures if start_s <= at_s < end_s)


# --------------------------------------------------------------------- clients


class Client:
    """The program of one client in a process of its own, and the thread that hears it."""

    def __init__(self, diary: Diary, addresses: Sequence[str]) -> None:
        self.diary = diary
        self._process = subprocess.Popen(
            [*program(diary.kind), diary.kind, diary.counter, *addresses],
            cwd=ROOT, env=environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._hear, name=diary.kind, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the program read its counter and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def join(self) -> None:
        self._thread.join(BRIDGE_LIMIT_S)
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _hear(self) -> None:
        diary = self.diary
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for line in self._process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "ok":
                diary.answer(int(rest))
            elif word == "error":
                diary.fail(rest)
            elif word == "types":
                diary.used_types = True
            elif word == "read":
                diary.read = rest
        if diary.read is None:
            diary.defect = self._process.stderr.read() or "it did not end"


def program(kind: str) -> list[str]:
    """Return how the program of one client is run."""
    if kind in PYTHON_CLIENTS:
        return [sys.executable, "-m", "tests.integration.python_clients"]
    return ["node", str(NODE_PROGRAM)]


def environment() -> dict[str, str]:
    return {**os.environ, **node_path(), "SENTINEL_NAME": SENTINEL_NAME}


def is_installed(kind: str) -> bool:
    """Whether the library of a client is there."""
    if kind in PYTHON_CLIENTS:
        return importlib.util.find_spec(PYTHON_CLIENTS[kind][0]) is not None
    return has_node_package(NODE_CLIENTS[kind])


# --------------------------------------------------------------------- the run


class Run:
    """One cluster, its clients, and the faults they live through together.

    Attributes:
        diaries: By kind of client.
        done_s: Fault -> when it was done.
        spans: Fault -> when it began and when everybody had got over it.
        counters: Kind -> what the cluster holds at the end.
    """

    def __init__(self, cluster: Cluster, kinds: Sequence[str]) -> None:
        self.cluster = cluster
        self.diaries = {kind: Diary(kind) for kind in kinds}
        self.done_s: dict[str, float] = {}
        self.spans: dict[str, tuple[float, float]] = {}
        self.counters: dict[str, int] = {}

    def live_through(self) -> None:
        """Start the clients, do every fault, stop the clients and read their counters."""
        leader = self.cluster.wait_for_leader()
        asked = self.cluster.others(leader)[0]
        addresses = [asked.client, *(node.client for node in self.cluster.others(asked))]
        clients = [Client(diary, addresses) for diary in self.diaries.values()]
        try:
            self._wait_for_answers(time.monotonic())
            # Looked for only now: a busy machine may have changed its leader meanwhile.
            leader = self._leader_other_than(asked)
            self._fault("leader killed", leader.kill)
            self._fault("killed node returns", leader.start)
            self._fault("leadership handed over", self._hand_over)
            if any(map(knows_one_node, self.diaries)):
                self._fault("asked node killed and started", lambda: self._replace(asked))
        finally:
            for client in clients:
                client.stop()
            for client in clients:
                client.join()
        leader = self.cluster.wait_for_leader()
        for kind, diary in self.diaries.items():
            self.counters[kind] = int(leader.call("GET", diary.counter) or 0)

    def _fault(self, name: str, do: Callable[[], None]) -> None:
        start_s = time.monotonic()
        do()
        self.done_s[name] = time.monotonic()
        self._wait_for_answers(self.done_s[name])
        self.spans[name] = (start_s, time.monotonic())

    def _hand_over(self) -> None:
        for node in self.cluster.nodes:
            self.cluster.wait_until_caught_up(node)
        self._leader_other_than(self.cluster.wait_for_leader())

    def _leader_other_than(self, node: ClusterNode) -> ClusterNode:
        """Return the leader, after a transfer where a node leads that is not to."""

        def other() -> ClusterNode | None:
            leader = self.cluster.wait_for_leader()
            if leader is not node:
                return leader
            node.call("RAFT", "TRANSFER")
            return None

        found = self.cluster.wait_until(other, f"{node} hands leadership over")
        assert found is not None
        return found

    def _replace(self, node: ClusterNode) -> None:
        node.kill()
        node.start()

    def _wait_for_answers(self, start_s: float) -> None:
        def all_answered() -> bool:
            return all(
                diary.defect is not None or diary.answers_since(start_s) >= CALLS
                for diary in self.diaries.values()
            )

        end_s = start_s + BRIDGE_LIMIT_S
        # Whoever is not answered in time is found by its own test.
        while not all_answered() and time.monotonic() < end_s:
            time.sleep(PAUSE_S)

    def check(self, kind: str) -> None:
        """Assert what must hold of one client.

        Raises:
            AssertionError: An acknowledged call is lost, a call counted twice, an error is
                of a kind that nobody expects, or the client did not get over a fault.
        """
        diary = self.diaries[kind]
        assert diary.defect is None, diary.defect
        assert diary.used_types
        for fault, done_s in self.done_s.items():
            assert diary.answers_since(done_s) >= CALLS, (
                f"not answered after: {fault}; {diary.failures[-3:]}"
            )
        strange = [text for _, text in diary.failures if not EXPECTED_ERROR.match(text)]
        assert not strange, strange[:3]
        numbers = [number for _, number in diary.answers]
        assert numbers == sorted(set(numbers)), "the numbers do not grow"
        counted = self.counters[kind]
        assert len(numbers) <= counted <= len(numbers) + len(diary.failures)
        assert counted >= numbers[-1]
        assert diary.read == str(counted)


@contextmanager
def finished_run(
    directory: Path, kinds: Sequence[str], overrides: Sequence[str] = ()
) -> Iterator[Run]:
    """Run a cluster and clients of some kinds through every fault."""
    with Cluster(directory, overrides=overrides) as cluster:
        cluster.start()
        run = Run(cluster, [kind for kind in kinds if is_installed(kind)])
        run.live_through()
        yield run


PROXY = ("writes.on_follower=proxy",)
# A leader of a busy machine is not to be lost by chance.
PATIENT = ("timing.election_timeout_ms=[1000,2000]",)


def _report(run: Run) -> list[str]:
    lines = []
    for kind, diary in run.diaries.items():
        lines.append(kind + ("" if diary.defect is None else f"  DEFECT {diary.defect}"))
        for fault, span in run.spans.items():
            errors = ", ".join(f"{count} x {text}" for text, count in diary.errors(*span).items())
            lines.append(f"  {fault}: gap {diary.longest_gap_s(*span):.2f} s; {errors or '-'}")
    return lines


def main() -> None:
    """Print how long each client was without an answer, and which errors it showed."""
    for kinds, overrides in ((REDIRECTED, ()), (PROXIED, PROXY)):
        with (
            tempfile.TemporaryDirectory() as directory,
            finished_run(Path(directory), kinds, overrides) as run,
        ):
            sys.stdout.write("\n".join(_report(run)) + "\n")
            for kind in run.diaries:
                try:
                    run.check(kind)
                except AssertionError as error:
                    sys.stdout.write(f"{kind}: {error}\n")


if __name__ == "__main__":
    main()
