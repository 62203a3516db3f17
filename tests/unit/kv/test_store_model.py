"""Any sequence of commands, compared with a plain dict.

The model keeps (value, deadline, create revision, modify revision, version) a
key and removes what is dead at once; the store may keep dead keys for a while,
which nobody must notice but by the revision. A twin of the store goes through
an image whenever the machine says so; both must agree on every hash.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import OK, Command, ErrorReply, Opcode, SetFlag
from raftkv.kv.store import KvStore
from tests.unit.kv.driver import check_invariants, reload

# The last two are in the bucket of `a`.
NAMES = [b"a", b"b", b"c", b"", b"\x00\xff", b"1619", b"2683"]
keys = st.sampled_from(NAMES)
values = st.sampled_from([b"", b"1", b"-5", b"text", b"9223372036854775807", bytes(300)])
ttls = st.integers(1, 2000)


class StoreMachine(RuleBasedStateMachine):
    """Drives a store, its twin and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.store, self.twin = KvStore(), KvStore()
        self.model: dict[bytes, tuple[bytes, int]] = {}
        self.now_ms = 1
        self.image: tuple[Any, list[bytes], list[bytes]] | None = None

    # ------------------------------------------------------------ commands

    def run(self, *commands: Command) -> list[Any]:
        """Apply one batch to both stores."""
        payload = encode_batch(self.now_ms, self.now_ms, 0, commands)
        results = [
            store.apply(store.applied_index + 1, payload) for store in (self.store, self.twin)
        ]
        assert results[0] == results[1]
        assert not self.store.alarms
        return results[0]

    def put(self, key: bytes, value: bytes, deadline_ms: int = 0) -> None:
        if 0 < deadline_ms <= self.now_ms:
            self.model.pop(key, None)
        else:
            self.model[key] = (value, deadline_ms)

    @rule(key=keys, value=values)
    def set(self, key: bytes, value: bytes) -> None:
        assert self.run((1, key, value)) == [OK]
        self.put(key, value)

    @rule(
        key=keys,
        value=values,
        ttl_ms=st.none() | ttls,
        flags=st.sampled_from([0, SetFlag.NX, SetFlag.XX, SetFlag.GET, SetFlag.NX | SetFlag.GET]),
        keep=st.booleans(),
    )
    def set_with(
        self, key: bytes, value: bytes, ttl_ms: int | None, flags: int, keep: bool
    ) -> None:
        old = self.model.get(key)
        if keep and ttl_ms is None:
            flags |= SetFlag.KEEPTTL
        (result,) = self.run((2, key, value, int(flags), ttl_ms, None, b"set"))
        refused = (flags & SetFlag.NX and old) or (flags & SetFlag.XX and not old)
        if flags & SetFlag.GET:
            assert result == (old[0] if old else None)
        else:
            assert result == (None if refused else OK)
        if not refused:
            deadline_ms = self.now_ms + ttl_ms if ttl_ms else 0
            if flags & SetFlag.KEEPTTL and old:
                deadline_ms = old[1]
            self.put(key, value, deadline_ms)

    @rule(names=st.lists(keys, min_size=1, max_size=4))
    def delete(self, names: list[bytes]) -> None:
        expected = len(set(names) & set(self.model))
        assert self.run((int(Opcode.DEL), *names)) == [expected]
        for name in names:
            self.model.pop(name, None)

    @rule(pairs=st.lists(st.tuples(keys, values), min_size=1, max_size=4), only_new=st.booleans())
    def set_many(self, pairs: list[tuple[bytes, bytes]], only_new: bool) -> None:
        fields = [field for pair in pairs for field in pair]
        refused = only_new and any(key in self.model for key, _ in pairs)
        opcode = Opcode.MSETNX if only_new else Opcode.MSET
        expected: object = OK if not only_new else 0 if refused else 1
        assert self.run((int(opcode), *fields)) == [expected]
        if not refused:
            for key, value in pairs:
                self.put(key, value)

    @rule(key=keys, step=st.integers(-3, 3))
    def increment(self, key: bytes, step: int) -> None:
        value, deadline_ms = self.model.get(key, (b"0", 0))
        (result,) = self.run((int(Opcode.INCRBY), key, step))
        if not re.fullmatch(rb"0|-?[1-9][0-9]*", value) or abs(int(value)) >= 2**63:
            assert result == ErrorReply("ERR value is not an integer or out of range")
        elif int(value) + step >= 2**63:
            assert result == ErrorReply("ERR increment or decrement would overflow")
        else:
            assert result == int(value) + step
            self.put(key, b"%d" % result, deadline_ms)

    @rule(key=keys, tail=values)
    def append(self, key: bytes, tail: bytes) -> None:
        value, deadline_ms = self.model.get(key, (b"", 0))
        (result,) = self.run((int(Opcode.APPEND), key, tail, 2000))
        if tail and len(value) + len(tail) > 2000:
            assert isinstance(result, ErrorReply)
        else:
            assert result == len(value + tail)
            self.put(key, value + tail, deadline_ms)

    @rule(key=keys, ttl_ms=st.integers(-5, 2000))
    def expire(self, key: bytes, ttl_ms: int) -> None:
        old = self.model.get(key)
        result = self.run((int(Opcode.EXPIRE), key, ttl_ms, None, 0, b"pexpire"))
        assert result == [int(old is not None)]
        if old:
            self.put(key, old[0], max(self.now_ms + ttl_ms, 1))

    @rule(key=keys)
    def persist(self, key: bytes) -> None:
        value, deadline_ms = self.model.get(key, (b"", 0))
        assert self.run((int(Opcode.PERSIST), key)) == [int(deadline_ms > 0)]
        if deadline_ms:
            self.put(key, value)

    @rule(source=keys, destination=keys)
    def rename(self, source: bytes, destination: bytes) -> None:
        (result,) = self.run((int(Opcode.RENAME), source, destination))
        if source in self.model:
            assert result == OK
            self.model[destination] = self.model.pop(source)
        else:
            assert result == ErrorReply("ERR no such key")

    @rule(source=keys, destination=keys)
    def copy(self, source: bytes, destination: bytes) -> None:
        allowed = source in self.model and destination not in self.model
        assert self.run((int(Opcode.COPY), source, destination, 0)) == [int(allowed)]
        if allowed:
            self.model[destination] = self.model[source]

    @rule()
    def flush(self) -> None:
        assert self.run((int(Opcode.FLUSH),)) == [OK]
        self.model.clear()

    @rule()
    def free(self) -> None:
        self.store.free_slice()

    @rule(elapsed_ms=st.integers(1, 1500))
    def pass_time(self, elapsed_ms: int) -> None:
        self.now_ms += elapsed_ms
        self.run()
        self.model = {
            key: entry for key, entry in self.model.items() if not 0 < entry[1] <= self.now_ms
        }

    @rule()
    def skip(self) -> None:
        for store in (self.store, self.twin):
            store.skip(store.applied_index + 1)

    # -------------------------------------------------------------- images

    @rule()
    def restart_the_twin_from_an_image(self) -> None:
        self.twin = reload(self.twin)

    @precondition(lambda self: self.image is None)
    @rule()
    def begin_an_image(self) -> None:
        moment = list(self.store.start_image().slices())
        self.image = (self.store.start_image().slices(), [], moment)

    @precondition(lambda self: self.image is not None)
    @rule()
    def take_a_piece(self) -> None:
        assert self.image is not None
        slices, pieces, moment = self.image
        piece = next(slices, None)
        if piece is not None:
            pieces.append(piece)
        else:
            assert pieces == moment
            self.image = None

    # ----------------------------------------------------------- agreement

    @invariant()
    def all_agree(self) -> None:
        assert self.store.state_hash == self.twin.state_hash
        assert self.store.revision == self.twin.revision
        check_invariants(self.store)
        check_invariants(self.twin)
        assert self.store.key_count == len(self.model)
        for name in NAMES:
            value, deadline_ms = self.model.get(name, (None, 0))
            assert self.store.execute((int(Opcode.GET), name)) == value
            expected = -2 if value is None else deadline_ms or -1
            assert self.store.execute((int(Opcode.PEXPIRETIME), name)) == expected
        found = self.store.execute((int(Opcode.SCAN), 0, None, 1000, None))
        assert isinstance(found, list)
        assert sorted(found[1]) == sorted(self.model)
        assert self.store.execute((int(Opcode.KEYS), b"*")) is not None


TestStoreModel = StoreMachine.TestCase
TestStoreModel.settings = settings(stateful_step_count=30, deadline=None)
