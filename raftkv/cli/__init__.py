"""The command `raftkv`: thin commands over the client library, the settings and the node."""
