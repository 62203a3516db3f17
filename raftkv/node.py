"""The composition root: builds every object of one node, starts and stops it in order.

Owns the order of start and stop and the exit code; nothing else knows all
layers. On SIGTERM or SIGINT the node answers what is in flight, syncs, writes a
sync mark and exits 0 within five seconds. A replica that stops itself (damaged
data, failed disk, refused identity) ends the node at once.

Who calls: cli.main (`raftkv start`). Tests: tests/integration.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from raftkv import __version__
from raftkv.cluster_files import ensure_local_peer_secret
from raftkv.config import Config
from raftkv.engine.ready import PeerHello
from raftkv.errors import (
    ConfigError,
    DamagedDataError,
    DirectoryInUseError,
    IdentityRefusedError,
    ProtocolError,
    StorageError,
)
from raftkv.observe.logs import LogObserver, configure_logging
from raftkv.replica.allocator import give_back
from raftkv.replica.collector import CollectorTimer
from raftkv.replica.ports import Stopped
from raftkv.replica.recovery import recover
from raftkv.replica.replica import Replica
from raftkv.replica.shell import SyncWorker, SystemClock, ThreadWorker, TurnScheduler
from raftkv.seams import PEER_RAFT, PEER_SNAPSHOT, PEER_STATE
from raftkv.server.listener import ClientListener
from raftkv.server.statistics import MEANINGS as CLIENT_METRICS
from raftkv.storage.disk import RealDisk
from raftkv.transport.handshake import LocalHello, Refusal, RefusalReason
from raftkv.transport.listener import Listener
from raftkv.transport.mesh import PeerMesh
from raftkv.transport.secret import load_secret
from raftkv.transport.totals import PEER_METRICS
from raftkv.types import Configuration, NodeId

if TYPE_CHECKING:
    from raftkv.observe.http import AdminServer
    from raftkv.transport.frames import Frame

EXIT_DONE = 0
EXIT_CONFIG = 2
EXIT_DAMAGED = 3
EXIT_IN_USE = 4
EXIT_INTERNAL = 6
EXIT_REFUSED = 7

# How long a thread that wants the interpreter waits for the loop while that is busy. A
# worker wants it four or five times for each piece of a snapshot and once for each sync,
# for some microseconds; at Python's 5 ms snapshots of a busy node took seconds longer.
_SWITCH_INTERVAL_S = 0.001
# The whole stop takes at most five seconds; these are its parts.
_HAND_OVER_S = 1.0
_DRAIN_S = 2.0
_SETTLE_S = 1.0


def run(config: Config) -> int:
    """Run one node until it is told to stop or stops itself.

    Args:
        config: Validated settings.

    Returns:
        The exit code of the process, as docs/reference/cli.md lists them.
    """
    logger = configure_logging(config.log.level, config.log.format)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with _without_certificates(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            return runner.run(Node(config, LogObserver(logger)).run())
        except Exception:
            # A defect of ours. What is durable stays so; the code says that it was no stop.
            logger.critical("internal_error", exc_info=True)
            return EXIT_INTERNAL


@contextlib.contextmanager
def _without_certificates() -> Iterator[None]:
    """Let nothing read the system's certificates meanwhile.

    aiohttp reads them as it is loaded, twice, for clients that no node has: 45 ms in which
    no other thread has the interpreter, and in which a node serves already. Whatever a node
    may trust is named by its config. In force before there are other threads, which could
    look at the environment while it changes.
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


async def _open(key: str, address: str, start: Callable[[], Awaitable[None]]) -> None:
    """Open one of the three sockets; a failure names the setting and the address."""
    try:
        await start()
    except OSError as error:
        raise OSError(error.errno, f"{key} = {address}: {error.strerror or error}") from error


def _tell(text: str) -> None:
    """Say why the node ends, in words, beside the log."""
    sys.stderr.write(f"raftkv: {text}\n")


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop  # type: ignore[return-value]


class _Done:
    """A slot for somebody who only wants to know that it is over."""

    def __init__(self, done: asyncio.Event) -> None:
        self._done = done

    def resolve(self, _results: object) -> None:
        self._done.set()

    def fail(self, _failure: object) -> None:
        self._done.set()


class Node:
    """One node: its parts, from start to exit."""

    def __init__(self, config: Config, observer: LogObserver) -> None:
        self._config = config
        self._clock = SystemClock()
        self._observer = observer
        self._draining = False
        self._ended = asyncio.Event()
        self._stopped: Stopped | None = None
        self.admin: AdminServer | None = None

    async def run(self) -> int:
        """Start, serve, stop; return the exit code."""
        try:
            self._disk = RealDisk(self._config.node.data_dir)
            self._disk.lock()
            self._build()
        except DirectoryInUseError as error:
            return self._report(EXIT_IN_USE, "directory_in_use", error)
        except DamagedDataError as error:
            _tell(f"{error}\n{error.advice}")
            return self._report(EXIT_DAMAGED, "damaged_data", error)
        except IdentityRefusedError as error:
            return self._report(EXIT_REFUSED, "identity_refused", error)
        except ConfigError as error:
            return self._report(EXIT_CONFIG, "config_refused", error)
        except StorageError as error:
            return self._report(EXIT_INTERNAL, "disk_failed", error)
        try:
            await self._start()
        except OSError as error:
            await self._abandon()
            return self._report(EXIT_IN_USE, "address_in_use", error)
        await self._ended.wait()
        if self._stopped is not None:
            _tell(self._stopped.reason)
            if not self._stopped.orderly:
                await self._abandon()
                return self._stopped.exit_code
        await self._stop()
        return EXIT_DONE if self._stopped is None else self._stopped.exit_code

    def _report(self, code: int, event: str, error: Exception) -> int:
        self._observer.event(event, reason=str(error))
        return code

    # ------------------------------------------------------------------- build

    def _build(self) -> None:
        config, observer = self._config, self._observer
        # Loading makes a million objects and no garbage.
        gc.disable()
        # Why not SystemRandom itself: every batch takes a seed, and a system
        # call for it. Nothing here has to be unpredictable, only unique.
        source = random.Random(random.SystemRandom().getrandbits(256))
        if ensure_local_peer_secret(config):
            observer.event("peer_secret_created", path=config.security.peer_secret_file)
        secret = load_secret(config.security.peer_secret_file)
        recovered = recover(config, self._disk, clock=self._clock, observer=observer, random=source)
        loop = asyncio.get_running_loop()
        self._scheduler = TurnScheduler(loop, self._clock)
        self._collector = CollectorTimer(loop)
        self._background = ThreadWorker(loop, "raftkv-background", when_idle=give_back)
        self._syncer = SyncWorker(loop, "raftkv-sync", others_busy=lambda: self._background.busy)
        self.mesh = PeerMesh(
            node_id=config.node.id,
            listen=config.listen.peer,
            secret=secret,
            hello=self._hello,
            on_up=self._peer_up,
            on_down=self._peer_down,
            on_frames=self._frames,
            on_refused=self._refused,
            observer=observer,
            limits=config.limits,
            random_source=random.Random(source.getrandbits(64)),
            is_news=self._is_news,
        )
        self.replica = Replica(
            config=config,
            recovered=recovered,
            clock=self._clock,
            network=self.mesh,
            syncer=self._syncer,
            background=self._background,
            observer=observer,
            random=source,
            wake=self._scheduler.wake,
            on_stop=self._replica_stopped,
            on_configuration=self._configuration_changed,
            collector=self._collector,
        )
        self.mesh.set_members(self.replica.contacts)
        self.listener = ClientListener(self.replica, self.mesh, config, self._clock, observer)
        self._admin_listener = Listener(
            config.listen.admin, asyncio.Protocol, observer, failure_event="admin_accept_failed"
        )

    async def _make_admin(self) -> AdminServer:
        """Build the admin server; its packages take longer to load than all else together.

        So they are loaded by a thread, while this node serves already; whoever asks
        meanwhile waits in the queue of the socket.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, importlib.import_module, "raftkv.observe.http")
        from raftkv.observe.http import AdminServer
        from raftkv.observe.metrics import MetricGroup, NodeMetrics

        config, observer = self._config, self._observer
        metrics = NodeMetrics(
            version=__version__,
            status=self.replica.status,
            events=lambda: observer.counts,
            groups=(
                MetricGroup("peer", self.mesh.counters, PEER_METRICS),
                MetricGroup("clients", self.listener.counters, CLIENT_METRICS),
            ),
        )
        return AdminServer(
            address=config.listen.admin,
            version=__version__,
            status=self.replica.status,
            metrics=metrics.text,
            is_draining=lambda: self._draining,
            failure=self._failure,
            observer=observer,
            details=self._details,
            listener=self._admin_listener,
        )

    def _failure(self) -> str:
        return self._stopped.reason if self._stopped is not None else ""

    def _details(self) -> Mapping[str, object]:
        return {
            "clients": self.listener.connection_count,
            "links": {
                member.id: "up" if self.mesh.is_up(member.id) else self.mesh.failure(member.id)
                for member in self.replica.configuration.members
                if member.id != self._config.node.id
            },
        }

    # --------------------------------------------------------------- callbacks

    def _hello(self) -> LocalHello:
        hello = self.replica.hello()
        return LocalHello(
            cluster_id=self.replica.cluster_id,
            disk_id=hello.disk_id,
            term=hello.term,
            last_index=hello.last_index,
            founding=hello.founding,
            admitted=hello.admitted,
            refusal_ms=hello.refusal_ms,
        )

    def _is_news(self, hello: PeerHello) -> bool:
        return self.replica.is_news(hello)

    def _peer_up(self, node: NodeId, hello: PeerHello) -> None:
        self.replica.peer_up(node, hello)
        self.listener.peer_up(node)

    def _peer_down(self, node: NodeId) -> None:
        self.replica.peer_down(node)
        self.listener.peer_down(node)

    def _frames(self, node: NodeId, frames: list[Frame]) -> None:
        for kind, body in frames:
            if kind in (PEER_RAFT, PEER_SNAPSHOT, PEER_STATE):
                try:
                    self.replica.receive(node, kind, body)
                except ProtocolError as error:
                    self._observer.event("peer_protocol_error", peer=node, reason=str(error))
            else:
                self.listener.received(node, kind, body)

    def _refused(self, node: NodeId, refusal: Refusal) -> None:
        """Let the replica judge what a proven member says about this node's belonging."""
        reasons = (RefusalReason.OTHER_CLUSTER, RefusalReason.UNKNOWN_NODE)
        if not refusal.proven or refusal.reason not in reasons:
            return
        # Which side sees first that the clusters differ is chance; who does not
        # know whom is not.
        if refusal.by_peer or refusal.reason is RefusalReason.OTHER_CLUSTER:
            self.replica.peer_refused(node, refusal.reason)

    def _configuration_changed(self, configuration: Configuration) -> None:
        self.mesh.set_members(configuration.members)

    def _replica_stopped(self, stopped: Stopped) -> None:
        self._stopped = stopped
        self._ended.set()

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """An exception that nobody caught: say so; turns and workers' reports guard their own."""
        self._observer.event(
            "unexpected_error",
            message=context.get("message", ""),
            error=repr(context.get("exception", "")),
        )

    # ------------------------------------------------------------ start and stop

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        listen = self._config.listen
        await _open("listen.peer", listen.peer, self.mesh.start)
        await _open("listen.client", listen.client, self.listener.start)
        await _open("listen.admin", listen.admin, self._admin_listener.bind)
        # Before the first turn, which would walk over all that was loaded.
        self._collector.start()
        self._scheduler.start(self.replica)
        admin = await self._make_admin()
        await _open("listen.admin", listen.admin, admin.start)
        self.admin = admin
        self._observer.event(
            "started",
            version=__version__,
            node=self._config.node.id,
            client=self._config.listen.client,
            peer=self._config.listen.peer,
            admin=self._config.listen.admin,
        )

    async def _stop(self) -> None:
        """Answer what is in flight, make everything durable, say goodbye."""
        self._draining = True
        self._observer.event("stopping")
        await self._hand_over()
        await self.listener.drain(_DRAIN_S)
        self.replica.drain()
        await self._until_settled()
        self.replica.mark()
        await self._until_settled()
        self._scheduler.stop()
        self._collector.stop()
        await self.mesh.stop()
        if self.admin is not None:
            await self.admin.stop()
        self._admin_listener.stop()
        self._syncer.stop()
        self._background.stop()
        self.replica.close()
        self._disk.unlock()
        self._observer.event("stopped_cleanly")

    async def _hand_over(self) -> None:
        """Give leadership to another node first, so that clients lose no time."""
        if not self.replica.is_leader:
            return
        done = asyncio.Event()
        self.replica.transfer_leadership(None, _Done(done))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HAND_OVER_S):
                await done.wait()

    async def _until_settled(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SETTLE_S / 2
        while self.replica.busy and self.replica.stopped is None and loop.time() < deadline:
            await asyncio.sleep(0.005)

    async def _abandon(self) -> None:
        """Close everything without another word to anybody."""
        self._scheduler.stop()
        self._collector.stop()
        await self.listener.stop()
        await self.mesh.stop()
        if self.admin is not None:
            await self.admin.stop()
        self._admin_listener.stop()
