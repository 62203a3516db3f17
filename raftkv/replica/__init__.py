"""The turn: persist, send, apply, reply."""
