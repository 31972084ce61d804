"""The engine of a real node: one RocksDB instance with one column family for all of its replicas.

RocksDB's own write-ahead log is off, because ours holds every entry already. Rows live in a
memtable until a flush writes them to a sorted file and syncs it. Flushes of one column family reach
the disk in the order of the writes, and memtables change only between two writes; so what a crash
leaves is a prefix at a batch boundary. Data and applied indexes are in one batch and therefore in
one prefix.

Three habits of the binding (rocksdict 0.3.29) shape this module.

*   All calls but ``flush`` and ``close`` hold the GIL. RocksDB answers a backlog by making writes
    wait, and the event loop would wait with them; so its stall triggers are off and
    :meth:`RocksEngine.stats` reports the backlog as ``pressure`` instead.
*   Its snapshots answer point reads of their own time, but iterators made from them see the newest
    rows. An iterator, on the other hand, keeps the state of the moment it was made. So a snapshot
    here costs nothing until the next write; just before that write it gets one iterator and from
    then on answers everything from it, seeking again when two scans take turns.
*   An iterator ends early, without a word, when it meets rotten bytes. Only the plain one lets us
    ask why it ended; the comfortable ones do not, and a scan cut short would be a replica that
    silently differs. The question costs 0.06 microseconds a row.

Iterators keep an instance open after ``close``. Every one is therefore held by a cursor that the
engine can release, whoever still holds the scan or the snapshot.

Invariants: the reserved space holds the format number from the first flush on, and nothing else.
Left out: repair. Damaged bytes raise EngineDamage, the process stops, and peers have the data.
"""

import errno
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from weakref import WeakSet

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from kvorum_server.config import KIB, MIB, Config
from kvorum_server.storage.engine import RESERVED_SPACE, SPACE_BYTES, EngineStats, space_prefix
from kvorum_server.storage.errors import (
    DirectoryInUse,
    DirectoryUnusable,
    EngineDamage,
    NewerFormat,
    NoRoom,
    StorageError,
)

FORMAT = 1
"""Of the rows and files below the directory; a program refuses a higher one than its own."""

FORMAT_KEY = space_prefix(RESERVED_SPACE) + b"format"

IMMUTABLE_MEMTABLES_MAX = 6
"""Memtables that wait for their flush before writes are refused."""

LEVEL_0_FILES_MAX = 36
"""Files that wait for their compaction before writes are refused; every read looks into each."""

NO_SPACE = os.strerror(errno.ENOSPC)
"""How RocksDB tells of a full disk: in the words of the operating system."""

NEVER = 1_000_000
"""For triggers that count files: more than there will ever be."""


class RocksEngine:
    """Rows on disk. Opens or creates the directory; ``read_only`` leaves its rows as they are.

    Raises:
        DirectoryInUse: another process has it open.
        DirectoryUnusable: it cannot be made or written.
        NoRoom: the disk is too full to open it; its rows are as they were.
        NewerFormat: a newer kvorum wrote it.
        EngineDamage: files are missing or rotten, or it is not a directory of kvorum.
    """

    def __init__(self, path: Path, config: Config, *, read_only: bool = False) -> None:
        self._directory = str(path)
        self._database = _open(path, config, read_only)
        self._cursors: WeakSet[_Cursor] = WeakSet()
        self._unpinned: WeakSet[RocksSnapshot] = WeakSet()
        self._flushing = threading.Lock()
        self._closed = False
        try:
            self._check_format(read_only)
        except StorageError:
            self.close()
            raise

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, None when absent."""
        try:
            value: bytes | None = self._database.get(key)
        except Exception as error:
            raise _failure("read", self._directory, error) from error
        return value

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows of [start, end) in key order or backwards; lazily, of the state at the call."""
        if start >= end:
            return iter(())
        cursor = self._cursor(end)
        return _rows_backwards(cursor, start) if reverse else _rows(cursor, start)

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Puts all rows at once, all or nothing; None deletes. Durable after the next flush."""
        self._pin_snapshots()
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        for key, value in rows.items():
            if value is not None:
                put(key, value)
            else:
                batch.delete(key)
        try:
            self._database.write(batch)
        except Exception as error:
            raise _failure("write", self._directory, error) from error

    def snapshot(self) -> "RocksSnapshot":
        """A view that later writes do not change."""
        return RocksSnapshot(self, self._unpinned)

    def flush(self) -> None:
        """Makes every write before the call durable. Releases the GIL; writes go on meanwhile."""
        with self._flushing:
            try:
                self._database.flush(True)
            except Exception as error:
                raise _failure("flush", self._directory, error) from error

    def drop(self, space: int) -> None:
        """Deletes all rows of a space: one range tombstone, however many rows there are."""
        assert space != RESERVED_SPACE, "the reserved space is not a replica's"
        start, end = space_prefix(space), space_prefix(space + 1)
        if next(self.scan(start, end), None) is None:
            return
        self._pin_snapshots()
        try:
            self._database.delete_range(start, end)
        except Exception as error:
            raise _failure("write", self._directory, error) from error

    def spaces(self) -> list[int]:
        """Spaces that hold at least one row, ascending: one seek for each."""
        spaces: list[int] = []
        cursor = self._cursor()
        cursor.iterator.seek(space_prefix(0))
        while cursor.iterator.valid():
            space = int.from_bytes(cursor.iterator.key()[:SPACE_BYTES], "big")
            if space == RESERVED_SPACE:
                break
            spaces.append(space)
            cursor.iterator.seek(space_prefix(space + 1))
        cursor.check()
        return spaces

    def stats(self) -> EngineStats:
        """Sizes and backlog; about three microseconds."""
        number = self._database.property_int_value
        immutable = number("rocksdb.num-immutable-mem-table") or 0
        level_0 = int(self._database.property_value("rocksdb.num-files-at-level0") or 0)
        return EngineStats(
            disk_bytes=number("rocksdb.total-sst-files-size") or 0,
            memory_bytes=(number("rocksdb.size-all-mem-tables") or 0)
            + (number("rocksdb.block-cache-usage") or 0)
            + (number("rocksdb.estimate-table-readers-mem") or 0),
            pressure=min(
                1.0, max(immutable / IMMUTABLE_MEMTABLES_MAX, level_0 / LEVEL_0_FILES_MAX)
            ),
        )

    def close(self) -> None:
        """Releases files and locks, after a flush under way. Open scans end. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._unpinned.clear()
        for cursor in list(self._cursors):
            cursor.release()
        with self._flushing:
            try:
                self._database.close()
            except Exception as error:
                raise _failure("close", self._directory, error) from error

    def _check_format(self, read_only: bool) -> None:
        """Reads the format number, or writes it into an instance that is still empty."""
        found = self.get(FORMAT_KEY)
        if found is None:
            cursor = self._cursor()
            cursor.iterator.seek_to_first()
            if cursor.iterator.valid():
                raise EngineDamage("open", self._directory, "it has rows but no format number")
            cursor.check()
            if not read_only:
                self.write({FORMAT_KEY: FORMAT.to_bytes(4, "big")})
                self.flush()
        elif int.from_bytes(found, "big") > FORMAT:
            raise NewerFormat(self._directory, int.from_bytes(found, "big"), FORMAT)

    def _cursor(self, bound: bytes | None = None) -> "_Cursor":
        cursor = _Cursor(self._database, self._directory, bound)
        self._cursors.add(cursor)
        return cursor

    def _pin_snapshots(self) -> None:
        """Before a write: every snapshot since the last one gets an iterator of this state."""
        if self._unpinned:
            for snapshot in list(self._unpinned):
                snapshot.pin(self._cursor())
            self._unpinned.clear()


class _Cursor:
    """A RocksDB iterator that can be taken away from those who use it.

    The bound keeps it from reading on through the deleted rows after its range. RocksDB keeps a
    pointer to the bytes of the bound and the binding does not keep the bytes, so the cursor does.
    There is none against the deleted rows before a range: asked for it, the binding sets this one.

    ``moves`` counts seeks, so that a scan notices when another one moved a shared cursor. Using a
    released cursor is a bug and raises AttributeError.
    """

    __slots__ = ("__weakref__", "_bound", "_directory", "iterator", "moves")

    def __init__(self, database: Rdict, directory: str, bound: bytes | None) -> None:
        options = ReadOptions()
        # Files that this iterator is the last one to need are not deleted while the loop waits.
        options.set_background_purge_on_iterator_cleanup(True)
        if bound is not None:
            options.set_iterate_upper_bound(bound)
        self._bound = bound
        self._directory = directory
        self.iterator = database.iter(options)
        self.moves = 0

    def release(self) -> None:
        """Lets go of the rows and of the instance. Once."""
        del self.iterator

    def check(self) -> None:
        """Raises EngineDamage when the iterator ended before its rows did."""
        try:
            self.iterator.status()
        except Exception as error:
            raise _failure("read", self._directory, error) from error


class RocksSnapshot:
    """The rows of a :class:`RocksEngine` at one moment; the module's essay says how."""

    __slots__ = ("__weakref__", "_closed", "_cursor", "_engine", "_unpinned")

    def __init__(self, engine: RocksEngine, unpinned: "WeakSet[RocksSnapshot]") -> None:
        self._engine = engine
        self._unpinned = unpinned
        self._cursor: _Cursor | None = None
        self._closed = False
        unpinned.add(self)

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, None when absent."""
        assert not self._closed, "a closed snapshot is not read"
        cursor = self._cursor
        if cursor is None:
            return self._engine.get(key)
        cursor.moves += 1
        cursor.iterator.seek(key)
        if cursor.iterator.valid() and cursor.iterator.key() == key:
            value: bytes = cursor.iterator.value()
            return value
        cursor.check()
        return None

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows of [start, end) in key order, or from the end backwards; lazily."""
        assert not self._closed, "a closed snapshot is not read"
        if self._cursor is None:
            return self._engine.scan(start, end, reverse=reverse)
        return _shared_rows(self._cursor, start, end, reverse)

    def close(self) -> None:
        """Lets the engine forget the old rows. Idempotent; scans begun before may go on."""
        self._closed = True
        self._cursor = None
        self._unpinned.discard(self)

    def pin(self, cursor: _Cursor) -> None:
        """The engine is about to change: from now on the cursor knows the old rows."""
        assert self._cursor is None, "pinned once"
        assert not self._closed, "nobody asks any more"
        self._cursor = cursor


def _rows(cursor: _Cursor, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    """From ``start`` to the cursor's bound. No local keeps the iterator while the caller works."""
    cursor.iterator.seek(start)
    while cursor.iterator.valid():
        yield cursor.iterator.key(), cursor.iterator.value()
        cursor.iterator.next()
    cursor.check()


def _rows_backwards(cursor: _Cursor, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    """From the cursor's bound back to ``start``."""
    cursor.iterator.seek_to_last()
    while cursor.iterator.valid():
        key = cursor.iterator.key()
        if key < start:
            return
        yield key, cursor.iterator.value()
        cursor.iterator.prev()
    cursor.check()


def _shared_rows(
    cursor: _Cursor, start: bytes, end: bytes, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Rows of [start, end) from a cursor without bounds that others move, too."""
    _seek(cursor, end if reverse else start, reverse, past=reverse)
    while cursor.iterator.valid():
        moves, key = cursor.moves, cursor.iterator.key()
        if not start <= key < end:
            return
        yield key, cursor.iterator.value()
        if cursor.moves != moves:
            _seek(cursor, key, reverse, past=True)
        elif reverse:
            cursor.iterator.prev()
        else:
            cursor.iterator.next()
    cursor.check()


def _seek(cursor: _Cursor, key: bytes, reverse: bool, *, past: bool) -> None:
    """To the first row at ``key`` or after it, in scan order; never at it when ``past``."""
    cursor.moves += 1
    iterator = cursor.iterator
    if reverse:
        iterator.seek_for_prev(key)
    else:
        iterator.seek(key)
    if past and iterator.valid() and iterator.key() == key:
        if reverse:
            iterator.prev()
        else:
            iterator.next()


def _failure(action: str, directory: str, error: Exception) -> Exception:
    """The binding raises bare Exception for what RocksDB reports; any subclass is a bug of ours."""
    if type(error) is not Exception:
        return error
    return EngineDamage(action, directory, str(error))


def _open(path: Path, config: Config, read_only: bool) -> Rdict:
    """The instance, with what can be wrong told apart."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DirectoryUnusable(str(path), error.strerror or str(error)) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise DirectoryUnusable(str(path), "permission denied")
    options = _options(config)
    try:
        # Without the second mention of the options, the binding would open an existing instance
        # with the ones that are written in its directory, and give it a cache of its own.
        access = AccessType.read_only() if read_only else AccessType.read_write()
        database = Rdict(str(path), options, {"default": options}, access)
    except Exception as error:
        if "LOCK" in str(error):
            raise DirectoryInUse(str(path)) from error
        if NO_SPACE in str(error):
            raise NoRoom(str(path), shutil.disk_usage(path).free) from error
        raise _failure("open", str(path), error) from error
    write_options = WriteOptions()
    write_options.disable_wal = True  # type: ignore[method-assign, assignment]  # stub is wrong
    database.set_write_options(write_options)
    return database


def _options(config: Config) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(_table_options(config))
    _set_memory(options, config)
    _set_background_work(options)
    return options


def _table_options(config: Config) -> BlockBasedOptions:
    """How files are laid out and read."""
    table = BlockBasedOptions()
    if config.block_cache_bytes:
        table.set_block_cache(Cache(config.block_cache_bytes))
    else:
        table.disable_cache()
    # Twice the default: half the index for the same point reads, and scans gain a fifth.
    table.set_block_size(8 * KIB)
    # 1 % of the reads of absent rows look into a file in vain. A put reads its old row first, so a
    # load of new keys lives from this: 0.6 instead of 4 microseconds.
    table.set_bloom_filter(10, False)
    # Index and filters stay in memory beside the cache (2.5 MB for a million rows of 256 bytes).
    # Inside it they cost 1.1 microseconds a read when partitioned, and 80 when not: a filter of a
    # large file does not fit one of the cache's shards and is read again every time.
    table.set_cache_index_and_filter_blocks(False)
    table.set_format_version(5)
    return table


def _set_memory(options: Options, config: Config) -> None:
    """Memtables, and what bounds the rest."""
    options.set_write_buffer_size(config.memtable_bytes)
    # A bloom filter over the memtable: most rows looked for are not in it, and a search in a skip
    # list of 100,000 rows that ends in vain costs a microsecond.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.05)
    # Open files keep index and filter in memory: at most 256 times 0.7 MB (files have 64 MB).
    options.set_max_open_files(256)
    # RocksDB's own log, otherwise without limit.
    options.set_max_log_file_size(MIB)
    options.set_keep_log_file_num(2)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)


def _set_background_work(options: Options) -> None:
    """Flush and compaction: one thread each, never in the way of the event loop."""
    options.set_max_background_jobs(2)
    # lz4 is cheaper than reading twice as many bytes; random values cost it next to nothing.
    options.set_compression_type(DBCompressionType.lz4())
    # No write ever waits, see the module's essay. The number of memtables is a stall trigger, too.
    options.set_max_write_buffer_number(64)
    options.set_level_zero_slowdown_writes_trigger(NEVER)
    options.set_level_zero_stop_writes_trigger(NEVER)
    options.set_soft_pending_compaction_bytes_limit(0)
    options.set_hard_pending_compaction_bytes_limit(0)
    # Files are synced while they are written, a MiB at a time. One sync of 64 MB at the end would
    # stand before the write-ahead log's own in the queue of the disk.
    options.set_bytes_per_sync(MIB)
    # Compaction of history and sessions leaves long runs of deleted rows, which a scan reads one by
    # one: 57 ms for 300,000. A file that is mostly deletions over 1,024 rows is compacted at once.
    options.add_compact_on_deletion_collector_factory(1024, 768, 0.0)
