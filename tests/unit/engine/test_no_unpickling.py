"""A bomb on every path by which PySyncObj, or our decoders, could reach an unpickler.

The bomb is a pickle that calls `os.mkdir` with the name of a mark when it is loaded. An audit
hook also records every class that any unpickler of the process looks up.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pysyncobj import SyncObj

from raftkv.engine import messages, syncobj_library
from raftkv.engine.core import RaftCore
from raftkv.engine.ready import PeerMessage
from raftkv.engine.syncobj_state import SafetyViolationError
from raftkv.errors import DamagedDataError, ProtocolError
from raftkv.kv.codec import decode_batch
from raftkv.kv.image_loader import ImageLoader
from raftkv.replica import transfer
from raftkv.storage.identity import load_identity
from raftkv.storage.snapshots import SnapshotStore
from raftkv.storage.wal import Wal
from raftkv.types import NodeId
from tests.sim.disk import SimDisk
from tests.sim.world import World
from tests.unit.engine.harness import core, recovered

_LOOKED_UP: list[tuple[Any, ...]] = []
_HOOKED = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        _LOOKED_UP.append(arguments)


class _Observer:
    def event(self, name: str, /, **fields: object) -> None:
        """Nobody listens."""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Where the bomb leaves its mark; fails if an unpickler ran meanwhile."""
    global _HOOKED
    if not _HOOKED:
        # An audit hook cannot be taken away again; this one only takes notes.
        sys.addaudithook(_hook)
        _HOOKED = True
    return tmp_path / "mark"


class _Bomb:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._path),)


def bomb(mark: Path) -> bytes:
    return pickle.dumps(_Bomb(mark), 2)


def fire(action: Callable[[], object], *allowed: type[BaseException]) -> None:
    """Run something that has to refuse."""
    _LOOKED_UP.clear()
    with contextlib.suppress(*allowed):
        action()
    assert _LOOKED_UP == [], "an unpickler ran"


def test_the_bomb_goes_off_where_something_unpickles(mark: Path) -> None:
    _LOOKED_UP.clear()
    pickle.loads(bomb(mark))
    assert mark.is_dir()
    assert _LOOKED_UP


# ----------------------------------------------- what arrives from peers and disk


def raft_message(node: RaftCore, body: bytes) -> None:
    ready = node.step(0, [PeerMessage(NodeId("B"), body)], [])
    assert ready.violators or not ready.records


LIBRARY_FORMS: list[Callable[[bytes], dict[str, Any]]] = [
    lambda b: {"type": "append_entries", "transmission": "finish", "data": b, "prevLogIdx": 0},
    lambda b: {"type": "append_entries", "serialized": (b, True, True), "commit_index": 0},
    lambda b: {"type": "append_entries", "entries": [(b"\2" + b, 1, 1)], "prevLogIdx": 0},
    lambda b: {"type": "apply_command", "command": b"\0" + b},
    lambda b: {"type": "apply_command", "command": b"\2" + b, "request_id": 1},
    lambda b: {"type": "apply_command_response", "request_id": 1, "error": b},
    lambda b: {"type": "timeout_now", "term": 9, "data": b},
]


@pytest.mark.parametrize("form", range(len(LIBRARY_FORMS)))
def test_a_message_form_of_the_library_is_refused(form: int, mark: Path) -> None:
    import msgspec

    message = LIBRARY_FORMS[form](bomb(mark))
    for body in (msgspec.msgpack.encode(message), pickle.dumps(message, 2)):
        fire(lambda body=body: raft_message(core(), body))  # type: ignore[misc]
    assert not mark.exists()


@pytest.mark.parametrize("kind", range(8))
def test_an_entry_of_a_peer_that_is_a_bomb(kind: int, mark: Path) -> None:
    entry = bytes((kind,)) + bomb(mark)
    body = messages.encode(messages.Append(1, 1, 1, 0, 0, False, [(1, entry)]))
    fire(lambda: core().step(0, [PeerMessage(NodeId("B"), body)], []))
    assert not mark.exists()


@pytest.mark.parametrize("kind", range(8))
def test_an_entry_of_the_wal_that_is_a_bomb(kind: int, mark: Path) -> None:
    log = recovered([(bytes((kind,)) + bomb(mark), 1)], term=1, hint=1)
    fire(
        lambda: core("A", "A", log=log).step(0, [], []),
        SafetyViolationError,
        ProtocolError,
    )
    assert not mark.exists()


def _disk_with(name: str, data: bytes) -> SimDisk:
    disk = SimDisk(World(0), "A")
    disk.open(name, create=True).write(data, 0)
    return disk


PATHS: dict[str, Callable[[bytes], object]] = {
    "raft message": messages.decode,
    "snapshot message": transfer.decode,
    "batch": lambda body: decode_batch(body),
    "image": lambda body: ImageLoader().feed(body),
    "identity": lambda body: load_identity(_disk_with("identity", body), node_id="A"),
    "wal": lambda body: Wal.recover(
        _disk_with("wal/00000000000000000001", body), segment_bytes=65536, observer=_Observer()
    ),
    "snapshot": lambda body: SnapshotStore(
        _disk_with(f"snapshots/{1:020d}-{1:010d}.snapshot", body)
    ).newest(),
}


@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_decoder_of_ours_does_not_unpickle(path: str, mark: Path) -> None:
    for body in (bomb(mark), zlib.compress(bomb(mark)), gzip.compress(bomb(mark))):
        fire(lambda body=body: PATHS[path](body), ProtocolError, DamagedDataError)  # type: ignore[misc]
    assert not mark.exists()


# ----------------------------------------------- the library's own paths


def test_no_module_of_the_library_that_we_load_can_unpickle() -> None:
    loaded = [module for name, module in sys.modules.items() if name.startswith("pysyncobj")]
    for module in loaded:
        for function in ("load", "loads"):
            if hasattr(module, function):
                with pytest.raises(RuntimeError, match="refused"):
                    getattr(module, function)(b"")
        if hasattr(module, "pickle"):
            with pytest.raises(RuntimeError, match="refused"):
                module.pickle.loads(b"")


LIBRARY_PATHS: dict[str, Callable[[Any, bytes], object]] = {
    "a version entry": lambda e, b: SyncObj._SyncObj__doApplyCommand(e, b"\3" + b),
    "a membership entry": lambda e, b: SyncObj._SyncObj__parseChangeClusterRequest(e, b"\2" + b),
    "a regular entry": lambda e, b: SyncObj._SyncObj__doApplyCommand(e, b"\0" + b),
    "a large entry in parts": lambda e, b: _large_entry(e, b),
    "a dump": lambda e, _: SyncObj._SyncObj__loadDumpFile(e, True),
}


def _large_entry(engine: Any, body: bytes) -> None:
    message = {
        "type": "append_entries",
        "term": 1,
        "commit_index": 0,
        "prevLogIdx": 0,
        "prevLogTerm": 0,
    }
    node = engine.peers["B"].node
    receive = SyncObj._SyncObj__onMessageReceived
    engine._SyncObj__recvTransmission = b""
    receive(engine, node, message | {"transmission": "finish", "data": body})


@pytest.mark.parametrize("path", sorted(LIBRARY_PATHS))
def test_an_unchanged_method_of_the_library_cannot_unpickle(path: str, mark: Path) -> None:
    engine = core()._engine
    fire(lambda: LIBRARY_PATHS[path](engine, bomb(mark)), RuntimeError, SafetyViolationError)
    assert not mark.exists()


def test_with_the_librarys_pickle_put_back_the_same_paths_go_off(
    mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second half: these are real paths, and it is the replacement that closes them."""
    monkeypatch.setattr(sys.modules["pysyncobj.syncobj"], "pickle", pickle)
    _LOOKED_UP.clear()
    engine = core()._engine
    SyncObj._SyncObj__parseChangeClusterRequest(engine, b"\2" + bomb(mark))
    assert mark.is_dir()
    assert _LOOKED_UP


def test_the_first_bytes_of_the_librarys_tcp_transport(mark: Path) -> None:
    connection = sys.modules["pysyncobj.tcp_connection"].TcpConnection(poller=None)
    body = zlib.compress(bomb(mark), 3)
    connection._TcpConnection__readBuffer = len(body).to_bytes(4, "little") + body
    fire(connection._TcpConnection__processParseMessage, RuntimeError)
    assert not mark.exists()


def test_the_engine_opens_no_socket_of_the_library() -> None:
    engine = core()._engine
    assert type(engine._SyncObj__transport).__name__ == "_InertTransport"
    with pytest.raises(SafetyViolationError, match="socket"):
        engine._poller.subscribe(1, None, 0)
    # Commands of its utility come in through that transport only.
    with pytest.raises(SafetyViolationError, match="no place here"):
        engine._SyncObj__transport.send(engine.peers["B"].node, {"type": "status"})


# ----------------------------------------------- names relied on


def test_every_private_name_relied_on_exists() -> None:
    engine = core()._engine
    for name in syncobj_library.PRIVATE_METHODS:
        assert callable(getattr(SyncObj, f"_SyncObj{name}")), name
    for name in syncobj_library.PRIVATE_ATTRIBUTES:
        assert hasattr(engine, f"_SyncObj{name}"), name


def test_every_private_name_used_is_listed() -> None:
    import re

    package = Path(syncobj_library.__file__).parent
    used = {
        name
        for path in package.glob("*.py")
        for name in re.findall(r"_SyncObj(__\w+)", path.read_text(encoding="utf-8"))
    }
    listed = {*syncobj_library.PRIVATE_METHODS, *syncobj_library.PRIVATE_ATTRIBUTES}
    assert used <= listed


def test_another_release_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncobj_library, "VERSION", "0.3.18")
    with pytest.raises(ImportError, match=r"0\.3\.17, found 0\.3\.18"):
        syncobj_library._verify_release()
    monkeypatch.setattr(syncobj_library, "VERSION", "0.3.17")
    monkeypatch.setattr(syncobj_library, "PRIVATE_METHODS", ("__onMessageReceived", "__gone"))
    with pytest.raises(ImportError, match="lacks __gone"):
        syncobj_library._verify_release()
