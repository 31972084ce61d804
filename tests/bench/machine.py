"""What a figure depends on besides the program: the machine and its disk."""

import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

SYNCS = 200
SYNC_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine on which a measurement was made; ``load`` is that of the minute before."""

    processor: str
    cores: int
    memory_gigabytes: float
    kernel: str
    python: str
    sync_us: float
    load: float


def describe(directory: Path) -> Machine:
    """Looks at this machine, and at the disk below ``directory``."""
    processor = _first("/proc/cpuinfo", "model name")
    memory = int(_first("/proc/meminfo", "MemTotal").split()[0])
    return Machine(
        processor=processor,
        cores=os.cpu_count() or 1,
        memory_gigabytes=round(memory / 1024**2, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        sync_us=round(_sync_us(directory), 1),
        load=round(os.getloadavg()[0], 2),
    )


def resident_megabytes(process: int, *, peak: bool = False) -> float:
    """Memory of a process that is in RAM, now or at most so far; a megabyte is 1,000,000 bytes."""
    name = "VmHWM" if peak else "VmRSS"
    return int(_first(f"/proc/{process}/status", name).split()[0]) * 1024 / 1e6


def _first(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"


def _sync_us(directory: Path) -> float:
    """The median time of an fdatasync after 4 KiB were written into a file of fixed size."""
    times: list[float] = []
    descriptor = os.open(directory / "sync", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, bytes(SYNC_BYTES * SYNCS), 0)
        os.fsync(descriptor)
        for number in range(SYNCS):
            os.pwrite(descriptor, os.urandom(SYNC_BYTES), number * SYNC_BYTES)
            started = time.perf_counter()
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - started)
    finally:
        os.close(descriptor)
    return statistics.median(times) * 1e6
