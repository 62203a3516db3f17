"""`raftkv` with one defect that makes its state differ; the rest is the product.

    DEFECT=NAME python -m tests.integration.node_with_defect start ...

* `set-order`: APPEND stores what it is given behind the members of a set, in the
  order in which this process iterates it, which follows from PYTHONHASHSEED.
* `local-clock`: APPEND stores the time of this process too.
* `swallowed-exception`: APPEND fails, and says that it has not.
* `flip`: at SIGUSR1 one bit of the value of `key` changes in memory.
* `none`: the same process without a defect.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from raftkv.cli.main import main
from raftkv.kv import store, strings
from raftkv.kv.commands import Command, Opcode
from raftkv.kv.keyspace import Keyspace, bucket_of

KEY = b"key"
MEMBERS = 50


def set_order(keyspace: Keyspace, command: Command) -> object:
    members = {b"member %d" % number for number in range(MEMBERS)}
    return strings.append(keyspace, (*command[:2], b"".join(members) + command[2], command[3]))


def local_clock(keyspace: Keyspace, command: Command) -> object:
    now = b"%d" % time.monotonic_ns()
    return strings.append(keyspace, (*command[:2], now + command[2], command[3]))


def swallowed_exception(keyspace: Keyspace, command: Command) -> object:
    with contextlib.suppress(ZeroDivisionError):
        keyspace.revision += 1
        raise ZeroDivisionError
    return len(command[2])


keyspaces: list[Keyspace] = []
make_keyspace = Keyspace.__init__


def make_known_keyspace(keyspace: Keyspace) -> None:
    make_keyspace(keyspace)
    keyspaces.append(keyspace)


def flip(*_: object) -> None:
    for keyspace in keyspaces:
        bucket = keyspace.buckets[bucket_of(KEY)]
        if KEY in bucket:
            value, deadline_ms, created, modified, version = bucket[KEY]
            value = bytes((value[0] ^ 1,)) + value[1:]
            bucket[KEY] = (value, deadline_ms, created, modified, version)


HANDLERS: dict[str, Callable[[Keyspace, Command], object]] = {
    "set-order": set_order,
    "local-clock": local_clock,
    "swallowed-exception": swallowed_exception,
}

if __name__ == "__main__":
    defect = os.environ.pop("DEFECT")
    if defect == "flip":
        Keyspace.__init__ = make_known_keyspace  # type: ignore[method-assign]
        signal.signal(signal.SIGUSR1, flip)
    elif defect != "none":
        store._HANDLERS[int(Opcode.APPEND)] = HANDLERS[defect]
    main()
