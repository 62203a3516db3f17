"""The Redis wire protocol as pure functions: bytes to requests, values to bytes."""
