"""The side that Redis clients see: sockets, commands, routing, forwarding."""
