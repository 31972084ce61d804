"""The slow path: a process in the hub that delays, loses and doubles the packets sent through it.

``python -m tests.chaos.slow_path SEED`` makes a TUN device, which the hub's rules route bad
directions to; every packet that the kernel hands over is given back to it when its time has come,
and is forwarded to its target from there. Which lines are how bad comes on standard input, one
table a line as JSON: ``{"10.1.2.3 10.1.2.4": {"delay_ms": 40, ...}}``; each table replaces the one
before and is answered with a line. A direction that no table names is passed on at once: its rule
is about to go. At the end of its input the process ends, and the device with it.
"""

import asyncio
import fcntl
import json
import os
import random
import socket
import struct
import sys
from contextlib import suppress

from tests.chaos.quality import Line, Quality
from tests.chaos.topology import SLOW_DEVICE

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES_MAX = 65_536
READ_PACKETS_MAX = 64
"""Packets taken in one pass of the event loop, so that due ones are not kept waiting."""


def open_device() -> int:
    """The file descriptor of a new TUN device in this process's namespace."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", SLOW_DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return device


class SlowPath:
    """All bad lines, and the packets on them."""

    def __init__(self, device: int, seed: int) -> None:
        self._device = device
        self._generator = random.Random(seed)
        self._lines: dict[str, Line] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(device, self._read)

    def set(self, table: dict[str, dict[str, float]]) -> None:
        """Replaces all lines."""
        self._lines = {
            direction: Line(Quality(**quality), self._generator)
            for direction, quality in table.items()
        }

    def _read(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(READ_PACKETS_MAX):
                self._forward(os.read(self._device, PACKET_BYTES_MAX))

    def _forward(self, packet: bytes) -> None:
        line = self._lines.get(direction_of(packet))
        if line is None:
            self._write(packet)
            return
        for arrival in line.arrivals(len(packet), self._loop.time()):
            self._loop.call_at(arrival, self._write, packet)

    def _write(self, packet: bytes) -> None:
        # A device that is full or whose target is gone loses the packet, as a cable would.
        with suppress(OSError):
            os.write(self._device, packet)


def direction_of(packet: bytes) -> str:
    """Source and target address of an IPv4 packet.

    >>> direction_of(bytes(12) + bytes([10, 0, 0, 1]) + bytes([10, 0, 0, 2]))
    '10.0.0.1 10.0.0.2'
    """
    return f"{socket.inet_ntoa(packet[12:16])} {socket.inet_ntoa(packet[16:20])}"


async def serve(seed: int) -> None:
    """Obeys tables from standard input until it ends."""
    slow_path = SlowPath(open_device(), seed)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        slow_path.set(json.loads(line))
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
