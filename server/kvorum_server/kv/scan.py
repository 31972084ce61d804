"""Range reads, in slices.

A page has at most ``limit`` items and a bounded number of bytes, and says where to go on. Reading
it may still take many rows (a count, a range of the past), so the work is cut in slices:
``advance`` reads ``scan_slice_rows`` rows of a view that does not move and goes on in the next
turn. Most pages fit one slice, and then the first ``advance`` has the answer.

A scan backwards that stops names the next key *downwards*: go on with the range that ends just
above it.
"""

from collections.abc import Iterator

from kvorum_proto.command_pb2 import Range, Result
from kvorum_server.config import Config
from kvorum_server.kv.history import History, View
from kvorum_server.kv.mvcc import fill_item
from kvorum_server.storage.engine import EngineSnapshot
from kvorum_server.storage.rows import PREFIX_BYTES, Table, table_range, unescape

Rows = Iterator[tuple[bytes, bytes] | None]
"""(escaped key, version) in scan order; None = a row was read that gave nothing."""


def range_rows(view: View, history: History, query: Range) -> Rows:
    """The versions that a range query sees."""
    if query.revision:
        return history.versions_at(view, query)
    start, end = table_range(history.space, Table.CURRENT, query.key, query.range_end)
    if start >= end:
        return iter(())
    rows = view.scan(start, end, reverse=query.reverse)
    return ((key[PREFIX_BYTES:], version) for key, version in rows)


class Budget:
    """What one command or query may still do. A transaction shares one among its operations."""

    __slots__ = ("_spent", "bytes_left", "items_left", "keys_left")

    def __init__(self, config: Config) -> None:
        self.keys_left = config.range_keys_max
        self.items_left = config.scan_page_keys_max
        self.bytes_left = config.scan_page_bytes_max
        self._spent = False

    def take(self, size: int) -> bool:
        """Spends an item of so many bytes; False when it is too much. The first one never is."""
        if self._spent and (self.items_left == 0 or size > self.bytes_left):
            return False
        self._spent = True
        self.items_left -= 1
        self.bytes_left -= size
        return True

    def spent(self, config: Config) -> int:
        """Keys and items that were taken from the budget."""
        keys = config.range_keys_max - self.keys_left
        return keys + config.scan_page_keys_max - self.items_left


class Page:
    """The answer to a range query as it grows: ``take`` rows until it refuses one."""

    __slots__ = ("_budget", "_count_only", "_keys_only", "_limit_left", "result")

    def __init__(self, query: Range, revision: int, result: Result, budget: Budget | None) -> None:
        """Without a budget the page has no end but the range's own: for counts, cut in slices."""
        assert query.count_only or budget is not None, "items are bounded"
        self.result = result
        result.range.revision = revision
        self._budget = budget
        self._count_only = query.count_only
        self._keys_only = query.keys_only
        self._limit_left = query.limit if query.limit and not query.count_only else -1

    def take(self, escaped: bytes, version: bytes) -> bool:
        """Adds a row; False when the page is full and goes on from this key."""
        answer = self.result.range
        size = 0
        if not self._count_only:
            size = len(escaped) + (0 if self._keys_only else len(version))
        if self._limit_left == 0 or (self._budget is not None and not self._budget.take(size)):
            answer.next_key = unescape(escaped)
            return False
        self._limit_left -= 1
        if not self._count_only:
            fill_item(answer.items.add(), unescape(escaped), version, keys_only=self._keys_only)
        answer.count += 1
        return True


class RangeScan:
    """A range query under way: the Scan of the state machine's contract."""

    __slots__ = ("_page", "_rows", "_slice_rows", "_snapshot")

    def __init__(self, snapshot: EngineSnapshot, rows: Rows, page: Page, slice_rows: int) -> None:
        assert slice_rows > 0, "a slice makes progress"
        self._snapshot = snapshot
        self._rows = rows
        self._page = page
        self._slice_rows = slice_rows

    def advance(self) -> Result | None:
        """Reads the next slice; the answer when it was the last, else None."""
        rows_left = self._slice_rows
        for found in self._rows:
            if found is not None and not self._page.take(*found):
                break
            rows_left -= 1
            if rows_left == 0:
                return None
        self.close()
        return self._page.result

    def close(self) -> None:
        """Gives the view back. Idempotent."""
        self._rows = iter(())
        self._snapshot.close()
