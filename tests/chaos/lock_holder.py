#!/usr/bin/env python3
"""A process that holds a lock again and again, and writes to a resource while it does.

    python tests/chaos/lock_holder.py NODES LOCK TTL_S RESOURCE LOG

Between looking at its lock and writing it waits a little, so that it is often suspended
just there: then it writes with the token of a holder that is over. What it believed and
when goes into LOG, a line of JSON each, on the clock that all processes of a host share.
SIGTERM lets it end behind the period in which it is.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from raftkv import Client, LeaseLostError, RequestError
from raftkv.client.outside import boot_s

# How long a lock is held if nothing goes wrong, and pauses within.
HELD_S = (0.3, 2.0)
PAUSE_S = (0.0, 0.05)


class Resource:
    """A connection to `tests.chaos.fenced_resource`."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = self._socket.makefile("rb")

    def write(self, token: int, holder: str) -> bool:
        """Write under a token; False if it was refused."""
        self._socket.sendall(b"%d %b\n" % (token, holder.encode()))
        return self._reader.readline() == b"accepted\n"


def hold_once(client: Client[bytes], name: str, ttl_s: float, resource: Resource, log: Any) -> None:
    """Hold the lock for a while, and tell what was believed."""

    def tell(event: str, **facts: object) -> None:
        log.write(json.dumps({"event": event, "at_s": boot_s(), **facts}) + "\n")
        log.flush()

    lock = client.lock(name, ttl_s=ttl_s)
    if not lock.acquire(wait_s=5):
        return
    token = None  # suspended from here until it is lost, a holder has never seen one
    try:
        token = lock.check()
        tell("held", token=token, until_s=boot_s() + lock.remaining())
        end_s = boot_s() + random.uniform(*HELD_S)
        while boot_s() < end_s:
            token = lock.check()
            tell("believes", token=token, until_s=boot_s() + lock.remaining())
            time.sleep(random.uniform(*PAUSE_S))
            tell("wrote" if resource.write(token, log.name) else "refused", token=token)
    except LeaseLostError:
        tell("lost", token=token)
    tell("leaves", token=token)
    try:
        lock.release()
    except LeaseLostError:
        tell("was lost", token=token)


def main() -> int:
    nodes, name, ttl, path, log_path = sys.argv[1:]
    ending = False

    def end(number: int, frame: object) -> None:
        nonlocal ending
        ending = True

    signal.signal(signal.SIGTERM, end)
    resource = Resource(path)
    with Client(nodes) as client, Path(log_path).open("a", encoding="utf-8") as log:
        while not ending:
            try:
                hold_once(client, name, float(ttl), resource, log)
            except RequestError:
                time.sleep(0.1)
            time.sleep(random.uniform(0.0, 0.1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
