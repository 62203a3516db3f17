"""Random choices that every node makes alike.

A choice starts from a seed that is in the log: that of the batch for a write,
one in the command itself for a read. Pure functions. Users: the commands that
choose (RANDOMKEY, SPOP, SRANDMEMBER, HRANDFIELD, ZRANDMEMBER).
"""

from __future__ import annotations

from typing import Final

_MASK_64: Final = 2**64 - 1


def next_random(state: int) -> tuple[int, int]:
    """Advance the generator SplitMix64 (Steele, Lea and Flood, 2014).

    Returns:
        The next state, and 64 random bits.
    """
    state = (state + 0x9E3779B97F4A7C15) & _MASK_64
    mixed = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK_64
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK_64
    return state, mixed ^ mixed >> 31


def random_positions(seed: int, size: int, count: int) -> list[int]:
    """Choose positions below `size`; a negative `count` may choose one several times.

    Returns:
        At most `size` different positions, or exactly `-count`; in no particular order.

    Source: R. W. Floyd's algorithm (Bentley, "Programming Pearls: A Sample of Brilliance").
    """
    if count < 0:
        positions = []
        for _ in range(-count):
            seed, number = next_random(seed)
            positions.append(number % size)
        return positions
    if count >= size:
        return list(range(size))
    chosen: dict[int, None] = {}
    for top in range(size - count, size):
        seed, number = next_random(seed)
        position = number % (top + 1)
        chosen[top if position in chosen else position] = None
    return list(chosen)
