"""The replicated state machine: deterministic, without I/O, clock or chance."""
