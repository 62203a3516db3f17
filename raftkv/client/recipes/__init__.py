"""Locks, elections, semaphores, barriers, counters and queues on leases and revisions.

`claims`, `conditions` and `queues` compute; `sync_recipes` and `async_recipes` are thin
shells with one class a recipe each. A test drives both shells with the same scenarios.
"""
