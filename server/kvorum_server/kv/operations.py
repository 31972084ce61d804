"""What single operations do to the map, whether they come alone or inside a transaction.

Each takes its message and fills in a Result, or refuses before it has changed anything. Revisions
in answers are those the group has once the command is done: inside a transaction, the one revision
that all its writes share.

Numbers are what Redis and every client can read back as text: an optional minus, no leading zeros,
no plus, no blanks, within signed 64 bits.
"""

import re

from kvorum_proto.command_pb2 import Delete, DeleteRange, ErrorCode, Increment, Put, Range, Result
from kvorum_server.kv.history import History, View
from kvorum_server.kv.mvcc import FIRST_REVISION, Versions, fill_item, lease_of, value_of
from kvorum_server.kv.refusal import Refusal
from kvorum_server.kv.scan import Budget, Page, range_rows
from kvorum_server.storage.rows import escape

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


class Operations:
    """The operations of a group, on its versions."""

    __slots__ = ("_history", "_overlay", "_versions")

    def __init__(self, versions: Versions, history: History, overlay: View) -> None:
        self._versions = versions
        self._history = history
        self._overlay = overlay

    def put(self, put: Put, result: Result, budget: Budget) -> None:
        """Sets a key. KEY_NOT_FOUND where something of an absent key was to be kept."""
        versions = self._versions
        if put.lease:
            raise Refusal(ErrorCode.LEASE_NOT_FOUND, f"lease {put.lease} does not exist")
        value, lease = put.value, 0
        if put.ignore_value or put.ignore_lease or put.previous:
            present = versions.get(put.key)
            if present is None and (put.ignore_value or put.ignore_lease):
                raise Refusal(ErrorCode.KEY_NOT_FOUND, "there is no value or lease to keep")
            if present is not None:
                if put.ignore_value:
                    value = value_of(present)
                if put.ignore_lease:
                    lease = lease_of(present)
                if put.previous:
                    _spend(budget, present)
                    fill_item(result.put.previous, put.key, present)
        versions.put(put.key, value, lease)
        result.put.revision = versions.revision_so_far

    def delete(self, delete: Delete, result: Result, budget: Budget) -> None:
        """Deletes a key. One that is not there is no refusal and takes no revision."""
        versions = self._versions
        if delete.previous:
            present = versions.get(delete.key)
            if present is not None:
                _spend(budget, present)
                fill_item(result.delete.previous, delete.key, present)
        result.delete.deleted = versions.delete(delete.key) is not None
        result.delete.revision = versions.revision_so_far

    def delete_range(self, delete: DeleteRange, result: Result, budget: Budget) -> None:
        """Deletes the first keys of a range, as many as the budget has; all or none if atomic."""
        versions, answer = self._versions, result.delete_range
        doomed: list[tuple[bytes, bytes]] = []
        next_key = b""
        for key, version in versions.scan(delete.key, delete.range_end):
            if len(doomed) == budget.keys_left or (
                delete.previous and not budget.take(len(key) + len(version))
            ):
                next_key = key
                break
            doomed.append((key, version))
        if next_key and delete.atomic:
            raise Refusal(
                ErrorCode.RANGE_TOO_LARGE, "the range is too large to be deleted in one step"
            )
        for key, version in doomed:
            versions.delete(key)
            if delete.previous:
                fill_item(answer.previous.add(), key, version)
        budget.keys_left -= len(doomed)
        answer.deleted = len(doomed)
        answer.next_key = next_key
        answer.revision = versions.revision_so_far

    def increment(self, increment: Increment, result: Result, budget: Budget) -> None:
        """Adds to the number under a key; an absent key counts as 0. The lease stays."""
        versions = self._versions
        present = versions.get(increment.key)
        number, lease = 0, 0
        if present is not None:
            number, lease = _integer(value_of(present)), lease_of(present)
        number += increment.by
        minimum = increment.minimum if increment.HasField("minimum") else INTEGER_MIN
        maximum = increment.maximum if increment.HasField("maximum") else INTEGER_MAX
        if not minimum <= number <= maximum:
            raise Refusal(
                ErrorCode.OUT_OF_BOUNDS, f"{number} is not in the range {minimum} to {maximum}"
            )
        versions.put(increment.key, b"%d" % number, lease)
        result.increment.value = number
        result.increment.revision = versions.revision_so_far

    def range(self, query: Range, result: Result, budget: Budget) -> None:
        """Reads a range of the present or one key of the past, inside a transaction."""
        versions = self._versions
        if query.revision:
            if query.range_end:
                raise Refusal(
                    ErrorCode.INVALID_REQUEST,
                    "a transaction reads the past key by key; read the range with a query",
                )
            check_revision(versions, query.revision)
        page = Page(query, versions.revision_so_far, result, budget)
        if query.revision:
            version = self._history.version_at(
                self._overlay, query.key, query.revision, versions.pending
            )
            if version is not None:
                page.take(escape(query.key), version)
            return
        for found in range_rows(self._overlay, self._history, query):
            assert found is not None, "a scan of the present finds something in every row"
            if not page.take(*found):
                break


def check_revision(versions: Versions, revision: int) -> None:
    """Refuses a revision that is not there yet, not any more, or never was."""
    if revision < 0:
        raise Refusal(ErrorCode.INVALID_REQUEST, f"{revision} is no revision; 0 means now")
    if revision > versions.revision:
        raise Refusal(
            ErrorCode.FUTURE_REVISION, f"revision {revision} is ahead of {versions.revision}"
        )
    if revision < versions.compacted_revision:
        raise compacted(versions, revision)


def compacted(versions: Versions, revision: int) -> Refusal:
    """The refusal of a revision that compaction has forgotten, with the oldest one left."""
    oldest = max(versions.compacted_revision, FIRST_REVISION)
    return Refusal(
        ErrorCode.COMPACTED,
        f"revision {revision} was compacted; the oldest is {oldest}",
        oldest_revision=oldest,
    )


def _spend(budget: Budget, version: bytes) -> None:
    """Pays for a previous item, which cannot be cut."""
    if not budget.take(len(version)):
        raise Refusal(ErrorCode.LIMIT_EXCEEDED, "the answers of the transaction are too large")


def _integer(value: bytes) -> int:
    """The number that a value spells."""
    if _INTEGER.fullmatch(value):
        number = int(value)
        if INTEGER_MIN <= number <= INTEGER_MAX:
            return number
    raise Refusal(ErrorCode.NOT_AN_INTEGER, "the value is not a signed 64-bit decimal integer")
