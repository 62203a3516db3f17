"""A replicated key-value store on Raft that speaks the Redis protocol.

Owns the names that a user of the library imports. They are loaded when they
are first asked for, so that `raftkv --help` does not pay for the client and
the client does not pay for the server.

The list is pinned by tests/house/test_public_names.py.
"""

__version__ = "0.1.0"
