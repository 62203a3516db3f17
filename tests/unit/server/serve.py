"""Run the front-end on fake replicas: `python -m tests.unit.server.serve 23001 [23002 23003]`.

For redis-cli, redis-benchmark and client libraries without consensus. The nodes
share one store; the first one leads. `--proxy` sets the routing, `--plain`
replaces the store by a bare dict to see what the front-end alone costs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Sequence

import uvloop

from raftkv.config import WritesConfig
from raftkv.kv.commands import Opcode
from raftkv.seams import Slot
from raftkv.server.listener import ClientListener
from raftkv.server.ports import Command
from raftkv.types import Configuration
from tests.unit.server.fake_replica import (
    FakeClock,
    FakeNetwork,
    FakeObserver,
    FakeReplica,
    SharedStore,
    config_for,
    members,
)


class LoopClock(FakeClock):
    def now_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000) if self.ms else 0


class PlainReplica(FakeReplica):
    """SET and GET on a dict, everything else refused: the ceiling."""

    values: dict[bytes, bytes]

    def answer_proposed(self) -> None:
        proposed, self.proposed = self.proposed, []
        for run, slot in proposed:
            slot.resolve(self._run(run))

    def answer_reading(self) -> None:
        reading, self.reading = self.reading, []
        for run, slot in reading:
            slot.resolve(self._run(run))

    def propose(self, commands: Sequence[Command], slot: Slot) -> None:
        self.proposed.append((commands, slot))  # type: ignore[arg-type]
        self._schedule()

    def read(self, commands: Sequence[Command], slot: Slot) -> None:
        self.reading.append((commands, slot))  # type: ignore[arg-type]
        self._schedule()

    def _run(self, run: list[Command]) -> list[object]:
        values = self.values
        results: list[object] = []
        for command in run:
            if command[0] == Opcode.SET:
                values[command[1]] = command[2]
                results.append("OK")
            else:
                results.append(values.get(command[1]))
        return results


async def serve(arguments: argparse.Namespace) -> None:
    shared = SharedStore(LoopClock())
    everyone = members(arguments.ports)
    routes: dict = {}
    listeners = []
    replicas = []
    for member in everyone:
        kind = PlainReplica if arguments.plain else FakeReplica
        replica = kind(shared, Configuration("c" * 32, everyone), member.id, automatic=True)
        if isinstance(replica, PlainReplica):
            replica.values = {}
        routing = WritesConfig(on_follower="proxy" if arguments.proxy else "redirect")
        config = config_for(member, everyone, writes=routing)
        listener = ClientListener(
            replica, FakeNetwork(member.id, routes), config, shared.clock, FakeObserver()
        )
        routes[member.id] = listener.received
        listeners.append(listener)
        replicas.append(replica)
        await listener.start()
    for replica in replicas:
        replica.lead(everyone[0].id)
    print("ready", os.getpid(), flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    for listener in listeners:
        await listener.drain(1.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ports", nargs="+", type=int)
    parser.add_argument("--proxy", action="store_true")
    parser.add_argument("--plain", action="store_true")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
