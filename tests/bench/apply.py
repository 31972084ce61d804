"""How much CPU the state machine takes for a put and for a get, engine included.

``python -m tests.bench.apply`` applies entries of 256 puts (256-byte values, sessions on) over
100,000 keys and writes each entry to the engine as a turn does; then it reads single keys. Times
are those of the thread that takes the turns, so that a busy machine does not blur them.
``--profile`` shows where the time goes, ``--engine memory`` leaves RocksDB out."""

import argparse
import cProfile
import pstats
import random
import tempfile
import time
from pathlib import Path

from kvorum_proto.command_pb2 import (
    CommandBatch,
    Get,
    Put,
    Query,
    Result,
    SessionOpen,
    Submission,
)
from kvorum_server.config import Config
from kvorum_server.kv.machine import KvMachine
from kvorum_server.storage.engine import Engine
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.overlay import Overlay
from kvorum_server.types import Entry, EntryKind

KEYS = 100_000
COMMANDS = 256
VALUE_BYTES = 256


def open_engine(name: str, directory: Path) -> Engine:
    """The engine under the machine."""
    if name == "memory":
        return MemoryEngine()
    from kvorum_server.storage.rocksdb import RocksEngine

    return RocksEngine(directory, Config())


def make_entries(count: int, seed: int) -> list[Entry]:
    """A session opening and ``count`` entries of puts to random keys."""
    random_source = random.Random(seed)
    opening = CommandBatch(submissions=[Submission(session_open=SessionOpen())])
    entries = [Entry(1, 1, EntryKind.COMMANDS, 0, 1, opening.SerializeToString())]
    session, sequence = 1 << 10, 1
    for index in range(2, count + 2):
        batch = CommandBatch()
        for _ in range(COMMANDS):
            key = b"key/%09d" % random_source.randrange(KEYS)
            batch.submissions.add(
                session=session,
                sequence=sequence,
                acknowledged_below=max(1, sequence - 2 * COMMANDS),
                put=Put(key=key, value=random_source.randbytes(VALUE_BYTES)),
            )
            sequence += 1
        entries.append(Entry(index, 1, EntryKind.COMMANDS, index, 1, batch.SerializeToString()))
    return entries


def measure(machine: KvMachine, overlay: Overlay, entries: list[Entry]) -> tuple[float, float]:
    """Microseconds for a put: (apply with parsing, engine write)."""
    applied = written = 0.0
    for entry in entries:
        started = time.thread_time()
        machine.apply(entry)
        between = time.thread_time()
        overlay.flush()
        applied += between - started
        written += time.thread_time() - between
    puts = (len(entries) - 1) * COMMANDS / 1e6
    return applied / puts, written / puts


def measure_gets(machine: KvMachine, count: int) -> float:
    """Microseconds for a get of a random key."""
    queries = [Query(get=Get(key=b"key/%09d" % (n * 7919 % KEYS))) for n in range(count)]
    started = time.thread_time()
    for query in queries:
        assert isinstance(machine.read(query), Result)
    return (time.thread_time() - started) / count * 1e6


def main() -> None:
    """Runs the benchmark and prints one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("rocksdb", "memory"), default="rocksdb")
    parser.add_argument("--entries", type=int, default=800)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        engine = open_engine(options.engine, Path(directory) / "state")
        overlay = Overlay(engine)
        machine = KvMachine(space=1, overlay=overlay, config=Config(), group=1)
        entries = make_entries(options.entries, seed=1)
        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        applied, written = measure(machine, overlay, entries)
        if options.profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(20)
        print(f"engine          {options.engine}, {options.entries * COMMANDS} puts, {KEYS} keys")
        print(f"apply one put   {applied:6.2f} us, with parsing and reading the old row")
        print(f"write one put   {written:6.2f} us, current, history and its share of the others")
        print(f"get one key     {measure_gets(machine, 50_000):6.2f} us")
        engine.close()


if __name__ == "__main__":
    main()
