"""The client library: one pure core (protocol, policy, commands), two thin I/O shells."""
