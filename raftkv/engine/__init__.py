"""Consensus without I/O: PySyncObj made safe behind one pure step."""
