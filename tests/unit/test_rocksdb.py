"""What only the engine on disk does: surviving, refusing, noticing damage.

The stories of bounds and snapshots that every engine must pass are in ``tests/contract``; they are
also what notices when another version of the binding behaves in another way.
"""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from kvorum_server.config import KIB, MIB, Config
from kvorum_server.storage.engine import space_prefix
from kvorum_server.storage.errors import (
    DirectoryInUse,
    DirectoryUnusable,
    EngineDamage,
    NewerFormat,
)
from kvorum_server.storage.rocksdb import FORMAT, FORMAT_KEY, RocksEngine

CONFIG = Config(memtable_bytes=64 * KIB)


def key(number: int) -> bytes:
    return space_prefix(1) + number.to_bytes(4, "big")


def rows_of(engine: RocksEngine) -> list[tuple[bytes, bytes]]:
    return list(engine.scan(space_prefix(0), space_prefix(1000)))


def one_line(error: pytest.ExceptionInfo[Exception], *parts: object) -> None:
    """A message for an operator: one line, naming the directory and what else matters."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


def flip(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 0xFF
    file.write_bytes(content)


def test_flushed_rows_are_there_after_a_restart(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, CONFIG)
    engine.write({key(1): b"kept", key(2): b"deleted"})
    engine.write({key(2): None})
    engine.flush()
    engine.close()

    engine = RocksEngine(tmp_path, CONFIG)
    assert rows_of(engine) == [(key(1), b"kept")]
    engine.close()


def test_closing_ends_scans_and_snapshots_so_that_the_directory_is_free(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, CONFIG)
    engine.write({key(number): b"" for number in range(10)})
    fresh, begun = engine.scan(key(0), key(9)), engine.scan(key(0), key(9))
    next(begun)
    snapshot = engine.snapshot()
    engine.write({key(1): None})
    of_snapshot = snapshot.scan(key(0), key(9))
    next(of_snapshot)
    engine.close()
    engine.close()

    RocksEngine(tmp_path, CONFIG).close()
    for scan in (fresh, begun, of_snapshot):
        with pytest.raises(AttributeError):
            next(scan)


def test_the_format_number_is_no_row_of_a_replica(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, CONFIG)
    assert engine.get(FORMAT_KEY) == FORMAT.to_bytes(4, "big")
    assert engine.spaces() == []
    engine.close()


def test_a_newer_format_is_refused_each_time(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, CONFIG)
    engine.write({FORMAT_KEY: (FORMAT + 1).to_bytes(4, "big")})
    engine.flush()
    engine.close()

    for _ in range(2):
        with pytest.raises(NewerFormat) as error:
            RocksEngine(tmp_path, CONFIG)
        one_line(error, tmp_path, f"format {FORMAT + 1}", "upgrade")


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    other = Rdict(str(tmp_path), Options(raw_mode=True))
    other[b"a"] = b"1"
    other.close()
    with pytest.raises(EngineDamage) as error:
        RocksEngine(tmp_path, CONFIG)
    one_line(error, tmp_path, "no format number")


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, CONFIG)
    with pytest.raises(DirectoryInUse) as error:
        RocksEngine(tmp_path, CONFIG)
    one_line(error, tmp_path)
    engine.close()


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("")
    for path in (file, file / "below"):
        with pytest.raises(DirectoryUnusable) as error:
            RocksEngine(path, CONFIG)
        one_line(error, path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DirectoryUnusable) as error:
        RocksEngine(tmp_path, CONFIG)
    one_line(error, tmp_path, "permission denied")


def test_new_options_hold_for_an_old_directory(tmp_path: Path) -> None:
    RocksEngine(tmp_path, CONFIG).close()
    RocksEngine(tmp_path, Config(memtable_bytes=3 * MIB)).close()
    newest = max(tmp_path.glob("OPTIONS-*"))
    assert f"write_buffer_size={3 * MIB}\n" in newest.read_text()


def test_an_engine_without_a_block_cache_works(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, Config(block_cache_bytes=0))
    engine.write({key(1): b"1"})
    engine.flush()
    assert rows_of(engine) == [(key(1), b"1")]
    engine.close()


def damaged_engine(path: Path) -> RocksEngine:
    """Opens an engine of 1,000 rows whose only file has a flipped byte among its first rows."""
    engine = RocksEngine(path, Config())
    engine.write({key(number): random.Random(number).randbytes(100) for number in range(1000)})
    engine.flush()
    engine.close()
    flip(max(path.glob("*.sst"), key=lambda file: file.stat().st_size), offset=200)
    return RocksEngine(path, Config())


def test_a_flipped_byte_is_damage_and_not_an_absent_row(tmp_path: Path) -> None:
    engine = damaged_engine(tmp_path)
    with pytest.raises(EngineDamage) as error:
        engine.get(key(0))
    one_line(error, tmp_path, "the node stops")
    assert engine.get(key(999)) is not None, "the other blocks are whole"
    engine.close()


def test_a_flipped_byte_is_damage_and_not_the_end_of_a_scan(tmp_path: Path) -> None:
    engine = damaged_engine(tmp_path)
    snapshot = engine.snapshot()
    for reverse in (False, True):
        with pytest.raises(EngineDamage):
            list(engine.scan(key(0), key(1000), reverse=reverse))
    engine.write({key(1000): b""})
    with pytest.raises(EngineDamage):
        list(snapshot.scan(key(0), key(1000)))
    with pytest.raises(EngineDamage):
        snapshot.get(key(0))
    engine.close()


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, Config())
    engine.write({key(1): b""})
    engine.flush()
    engine.close()
    max(tmp_path.glob("*.sst")).unlink()
    with pytest.raises(EngineDamage) as error:
        RocksEngine(tmp_path, Config())
    one_line(error, tmp_path)


def test_a_key_that_is_not_bytes_is_a_bug_and_not_damage(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, CONFIG)
    with pytest.raises(KeyError):
        engine.get("text")  # type: ignore[arg-type]
    engine.close()


def test_writes_go_on_while_other_threads_flush(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path, CONFIG)
    flushes = [threading.Thread(target=engine.flush) for _ in range(3)]
    number = 0
    for flush in flushes:
        flush.start()
        while flush.is_alive():
            engine.write({key(number): b"x" * 500})
            number += 1
        flush.join()
    assert [row for row, _ in rows_of(engine)] == [key(place) for place in range(number)]
    engine.flush()
    engine.close()

    engine = RocksEngine(tmp_path, CONFIG)
    assert len(rows_of(engine)) == number
    engine.close()


FULL_DISK = """
import os, resource, sys
from pathlib import Path
from kvorum_server.storage.errors import EngineDamage
from kvorum_server.storage.rocksdb import RocksEngine
from tests.unit.test_rocksdb import CONFIG, key

engine = RocksEngine(Path(sys.argv[1]), CONFIG)
engine.write({key(1): b"early"})
engine.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
engine.write({key(2): os.urandom(30_000)})
for action in (engine.flush, lambda: engine.write({key(3): b"late"}), engine.close):
    try:
        action()
    except EngineDamage as error:
        print(error)
"""


def test_a_failed_flush_stops_everything_and_harms_nothing(tmp_path: Path) -> None:
    # No file may grow beyond 20,000 bytes: the nearest thing to a full disk without a disk.
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = result.stdout.splitlines()
    assert [line.split(" the state in ")[0] for line in lines] == [
        *("cannot flush", "cannot write", "cannot close")
    ]
    assert "File too large" in lines[0]

    engine = RocksEngine(tmp_path, CONFIG)
    assert rows_of(engine) == [(key(1), b"early")]
    engine.close()


APPLIED = space_prefix(1) + b"applied"
PLACES = 50

WRITER = """
import sys, threading
from pathlib import Path
from kvorum_server.config import Config
from kvorum_server.storage.rocksdb import RocksEngine
from tests.unit.test_rocksdb import APPLIED, CONFIG, PLACES, key

engine = RocksEngine(Path(sys.argv[1]), CONFIG)
written = int(engine.get(APPLIED) or 0)

def flush_for_ever():
    while True:
        reach = written
        engine.flush()
        print(reach, flush=True)

threading.Thread(target=flush_for_ever, daemon=True).start()
while True:
    number = written + 1
    batch = {key((number + step) % PLACES): str(number).encode() * 50 for step in range(5)}
    engine.write(batch | {APPLIED: str(number).encode()})
    written = number
"""


def test_a_killed_process_leaves_whole_batches_and_all_that_it_flushed(tmp_path: Path) -> None:
    for flushes_seen in (1, 20, 60):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(flushes_seen):
                flushed = int(writer.stdout.readline())
            writer.kill()
            flushed = max([flushed, *(int(line) for line in writer.stdout if line.endswith("\n"))])

        engine = RocksEngine(tmp_path, CONFIG)
        applied = int(engine.get(APPLIED) or 0)
        assert applied >= flushed, "what a flush promised is there"
        expected = {APPLIED: str(applied).encode()} if applied else {}
        for number in range(max(1, applied - PLACES), applied + 1):
            for step in range(5):
                expected[key((number + step) % PLACES)] = str(number).encode() * 50
        assert dict(rows_of(engine)) == expected, "the rows are those of the applied index"
        engine.close()
