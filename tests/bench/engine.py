"""What the engine on disk costs: ``python -m tests.bench.engine``.

Loads a million rows of 256 random bytes in turns of 1,000, as a node would, then reads, restarts
and hurts it. Prints a table, or JSON with ``--json``; asserts nothing, because machines differ.
Microseconds are processor time of the calling thread, so that a busy machine disturbs them little;
milliseconds are time that passed. A node has the protocol code and gRPC in memory, too: the bytes
that are ``resident`` here are those of Python and the engine alone.
"""

import argparse
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from kvorum_server.config import Config
from kvorum_server.storage.engine import space_prefix
from kvorum_server.storage.rocksdb import RocksEngine

VALUE_BYTES = 256
TURN_ROWS = 1000
READS = 50_000
OVERWRITES = 300_000
DELETES = 300_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str


class Bench:
    """Runs against one directory; every method adds its figures."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        self.rows = rows
        self.randomness = random.Random(1)
        self.figures: list[Figure] = []
        self.add("resident, empty", resident_megabytes(), "MB")
        self.engine = RocksEngine(path, Config())

    def add(self, name: str, value: float, unit: str) -> None:
        self.figures.append(Figure(name, round(value, 3), unit))

    def microseconds(self, name: str, count: int, action: Callable[[], object]) -> None:
        """Processor time of this thread for each of ``count`` things that ``action`` does."""
        start = time.thread_time()
        action()
        self.add(name, (time.thread_time() - start) / count * 1e6, "us")

    def some_keys(self, count: int) -> list[bytes]:
        return [key(self.randomness.randrange(self.rows)) for _ in range(count)]

    def run(self) -> list[Figure]:
        self.load()
        self.read()
        self.restart()
        self.write_while_flushing()
        self.overwrite()
        self.delete()
        self.engine.close()
        return self.figures

    def load(self) -> None:
        order = list(range(self.rows))
        self.randomness.shuffle(order)
        busy, slowest, pressure = 0.0, 0.0, 0.0
        for start in range(0, self.rows, TURN_ROWS):
            turn = {
                key(number): self.randomness.randbytes(VALUE_BYTES)
                for number in order[start : start + TURN_ROWS]
            }
            began, began_busy = time.perf_counter(), time.thread_time()
            self.engine.write(turn)
            slowest = max(slowest, time.perf_counter() - began)
            busy += time.thread_time() - began_busy
            pressure = max(pressure, self.engine.stats().pressure)
        self.add("write, a row", busy / self.rows * 1e6, "us")
        self.add(f"write, slowest turn of {TURN_ROWS}", slowest * 1e3, "ms")
        self.add("highest pressure during the load", pressure, "")
        self.milliseconds("flush", self.engine.flush)
        self.add("resident, loaded", resident_megabytes(), "MB")
        self.add("disk", self.engine.stats().disk_bytes / 1e6, "MB")

    def read(self) -> None:
        keys = self.some_keys(READS)
        hot = keys[:1000] * (READS // 1000)
        absent = [name + b"absent" for name in keys]
        self.microseconds("get, any row", READS, lambda: self.get(keys))
        self.microseconds("get, 1,000 rows again and again", READS, lambda: self.get(hot))
        self.microseconds("get, absent rows", READS, lambda: self.get(absent))
        self.microseconds("scan of 1 row", 5000, lambda: self.scan(hot[:5000], 1))
        self.microseconds("scan of 100, a row", READS, lambda: self.scan(keys[: READS // 100], 100))
        self.microseconds("scan of all, a row", self.rows, lambda: exhaust(self.everything()))
        self.add("resident, after reads", resident_megabytes(), "MB")

    def get(self, keys: list[bytes]) -> None:
        for name in keys:
            self.engine.get(name)

    def scan(self, keys: list[bytes], count: int) -> None:
        for name in keys:
            first = int.from_bytes(name[4:], "big")
            exhaust(self.engine.scan(name, key(first + count)))

    def everything(self) -> Iterable[object]:
        return self.engine.scan(space_prefix(1), space_prefix(2))

    def restart(self) -> None:
        self.engine.close()
        start = time.perf_counter()
        self.engine = RocksEngine(self.path, Config())
        self.engine.get(key(0))
        self.add("open, with a first get", (time.perf_counter() - start) * 1e3, "ms")

    def write_while_flushing(self) -> None:
        """How long the loop's thread is held up while another thread flushes a full memtable."""
        for _ in range(80):
            self.engine.write(dict.fromkeys(self.some_keys(TURN_ROWS), b"x" * VALUE_BYTES))
        self.microseconds("stats", 1000, lambda: [self.engine.stats() for _ in range(1000)])
        flush = threading.Thread(target=self.engine.flush)
        flush.start()
        slowest, turns = 0.0, 0
        while flush.is_alive():
            turn = dict.fromkeys(self.some_keys(100), b"y" * VALUE_BYTES)
            start = time.perf_counter()
            self.engine.write(turn)
            slowest, turns = max(slowest, time.perf_counter() - start), turns + 1
        flush.join()
        self.add("turns of 100 rows during a flush", turns, "")
        self.add("slowest of them", slowest * 1e3, "ms")

    def overwrite(self) -> None:
        victim, other = key(self.rows // 2), key(self.rows // 3)
        for number in range(OVERWRITES // TURN_ROWS):
            for _ in range(TURN_ROWS):
                self.engine.write({victim: number.to_bytes(VALUE_BYTES, "big")})
        name = f"get, row overwritten {OVERWRITES:,} times"
        self.microseconds(name, READS, lambda: self.get([victim] * READS))
        self.microseconds("get, its neighbour", READS, lambda: self.get([other] * READS))
        self.microseconds("scan over it", 5000, lambda: self.scan([victim] * 5000, 1))

    def delete(self) -> None:
        """A scan whose first row comes after a long run of deleted ones."""
        for start in range(0, DELETES, TURN_ROWS):
            self.engine.write(dict.fromkeys(map(key, range(start, start + TURN_ROWS))))
        self.milliseconds(f"first row after {DELETES:,} deleted ones", self.first_row)
        self.milliseconds("empty range among them", lambda: self.scan([key(10)], 1000))
        self.engine.flush()
        while self.engine.stats().pressure and not self.is_quick():
            time.sleep(0.1)
        self.milliseconds("first row, once compacted", self.first_row)

    def is_quick(self) -> bool:
        start = time.perf_counter()
        self.first_row()
        return time.perf_counter() - start < 0.001

    def first_row(self) -> None:
        next(iter(self.everything()))

    def milliseconds(self, name: str, action: Callable[[], object]) -> None:
        start = time.perf_counter()
        action()
        self.add(name, (time.perf_counter() - start) * 1e3, "ms")


def key(number: int) -> bytes:
    """Rows of one space, as long as those of short user keys."""
    return space_prefix(1) + number.to_bytes(16, "big")


def exhaust(rows: Iterable[object]) -> None:
    for _ in rows:
        continue


def resident_megabytes() -> float:
    """Of this process, as the system counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    """Runs in a directory that is removed at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to load")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--directory", help="where to put the data; default: the system's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as path:
        figures = Bench(Path(path), arguments.rows).run()
    if arguments.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
        return
    for figure in figures:
        print(f"{figure.name:<52}{figure.value:>12,.2f} {figure.unit}")


if __name__ == "__main__":
    main()
