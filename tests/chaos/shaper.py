"""Holds back, loses, doubles and reorders the packets of a tunnel device.

`tests.chaos.world` starts it, routes the packets of shaped links into the device and
says on standard input how each link is to be: one JSON object a line, by `from>to` the
least delay, the jitter, both in milliseconds, the share lost and the share doubled.
The first line on standard output is the name of the device. Ends with its input.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import json
import os
import random
import select
import socket
import struct
import sys
import time

_DEVICE = b"shaped0"
_SET_DEVICE = 0x400454CA
_PACKETS_WITHOUT_HEADER = 0x1001
# Limit: what the links hold at once; more is lost, as in a full switch.
_HELD_MAX = 20_000


def main() -> int:
    """Forward until the input ends."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _SET_DEVICE, struct.pack("16sH22x", _DEVICE, _PACKETS_WITHOUT_HEADER))
    print(_DEVICE.decode(), flush=True)
    links: dict[bytes, list[float]] = {}
    held: list[tuple[float, int, bytes]] = []
    numbers = itertools.count()
    dice = random.Random()
    pending = b""
    while True:
        wait_s = max(0.0, held[0][0] - time.monotonic()) if held else None
        ready, _, _ = select.select([device, 0], [], [], wait_s)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return 0
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                for name, shape in json.loads(line).items():
                    source, target = name.split(">")
                    links[socket.inet_aton(source) + socket.inet_aton(target)] = shape
        now_s = time.monotonic()
        if device in ready:
            for packet in _packets(device):
                # The addresses of IPv4, at their fixed place.
                delay_ms, jitter_ms, loss, doubles = links.get(packet[12:20], (0.0, 0.0, 0.0, 0.0))
                copies = 2 if doubles and dice.random() < doubles else 1
                for _ in range(copies):
                    if len(held) < _HELD_MAX and not (loss and dice.random() < loss):
                        due_s = now_s + (delay_ms + jitter_ms * dice.random()) / 1000
                        heapq.heappush(held, (due_s, next(numbers), packet))
        while held and held[0][0] <= now_s:
            packet = heapq.heappop(held)[2]
            try:
                os.write(device, packet)
            except OSError as error:
                # A full queue of the kernel loses packets, too.
                print(f"lost a packet of {len(packet)} bytes: {error}", file=sys.stderr)


def _packets(device: int) -> list[bytes]:
    packets = []
    while len(packets) < 256:
        try:
            packets.append(os.read(device, 65536))
        except BlockingIOError:
            break
    return packets


if __name__ == "__main__":
    sys.exit(main())
