"""MULTI and WATCH in the shell, kept here and sent as one request.

The shell's client follows the leader and connects anew when it has to, and a
transaction on a connection would not survive that: a command meant to be queued
would be executed at once. So the commands wait here, and EXEC sends `KV EXEC`
with the revisions that WATCH has read. A command that the server refuses to
queue is refused at EXEC, and nothing is executed then either.
"""

from __future__ import annotations

from raftkv.client.sync_client import Client
from raftkv.errors import CommandError


class ShellTransaction:
    """What was typed since MULTI, and what is watched.

    Attributes:
        is_open: Commands are queued.
    """

    def __init__(self, client: Client[bytes]) -> None:
        self.is_open = False
        self._client = client
        self._queue: list[list[bytes]] = []
        self._watched: dict[bytes, int] = {}

    def execute(self, words: list[bytes]) -> object:
        """Carry out or queue one command and return its reply.

        Raises:
            RaftKvError: As of `Client.execute`.
        """
        name = words[0].upper()
        if name == b"WATCH" and len(words) > 1:
            return self._watch(words[1:])
        if name in (b"MULTI", b"EXEC", b"DISCARD", b"UNWATCH") and len(words) == 1:
            return self._control(name)
        if name == b"RESET":
            self._forget()
        elif self.is_open:
            self._queue.append(words)
            return b"QUEUED"
        return self._client.execute(*words)

    def _watch(self, keys: list[bytes]) -> object:
        if self.is_open:
            raise CommandError("ERR WATCH inside MULTI is not allowed")
        revisions = self._client.execute("KV", "REVISIONS", *keys)
        for key, revision in zip(keys, revisions, strict=True):
            self._watched.setdefault(key, revision)
        return b"OK"

    def _control(self, name: bytes) -> object:
        if name == b"MULTI":
            if self.is_open:
                raise CommandError("ERR MULTI calls can not be nested")
            self.is_open = True
        elif name == b"UNWATCH":
            self._watched = {}
        elif not self.is_open:
            raise CommandError(f"ERR {name.decode()} without MULTI")
        elif name == b"EXEC":
            request = self._request()
            self._forget()
            return self._client.execute(*request)
        else:
            self._forget()
        return b"OK"

    def _request(self) -> list[bytes | int]:
        request: list[bytes | int] = [b"KV", b"EXEC", len(self._watched)]
        for key, revision in self._watched.items():
            request += (key, revision)
        request.append(len(self._queue))
        for words in self._queue:
            request += (len(words), *words)
        return request

    def _forget(self) -> None:
        self.is_open = False
        self._queue = []
        self._watched = {}
