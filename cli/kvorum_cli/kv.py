"""The verbs for keys: put, get, delete, scan, cas, incr.

Arguments are turned back into the very bytes that were typed (the shell may pass what is no UTF-8).
Values come from an argument, a file, or standard input (``-``); a value read from a file is not
touched, not even its last newline. Each verb is one call of the SDK and the printing of its result.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from kvorum_cli.exits import Exit, Stop
from kvorum_cli.output import (
    escape,
    json_item,
    write_json,
    write_line,
    write_note,
    write_value,
)
from kvorum_cli.settings import Number, Verb, call, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvorum import AsyncClient, Item, PutResult

INT64 = Number(-(1 << 63))
REVISION = Number(1)
STANDARD_INPUT = "-"
NAME_LENGTH_MAX = 60
"""Longer keys and values are described, not shown, in the line that says what went wrong."""


def _key_argument() -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.argument("key")


@click.command(
    cls=Verb,
    examples="""
    kvorum put greeting hello
    kvorum put picture --file ./picture.png
    date | kvorum put now -
    kvorum put offset -- -5
    """,
)
@_key_argument()
@click.argument("value", required=False)
@click.option("--file", metavar="PATH", help="Read the value from a file, '-' for standard input.")
def put(key: str, value: str | None, file: str | None) -> None:
    """Set KEY to VALUE and print the new revision.

    VALUE '-' means what standard input holds.
    """
    content = read_value("VALUE", value, "--file", file)
    if content is None:
        raise click.UsageError("the value is missing: give VALUE, '-' or --file")
    done = call(lambda client: client.put(os.fsencode(key), content), _name(key))
    _print_revision(done)


@click.command(
    cls=Verb,
    examples="""
    kvorum get greeting
    kvorum get picture --raw > copy.png
    kvorum get greeting --at 2
    kvorum get greeting --stale 1.5
    """,
)
@_key_argument()
@click.option("--raw", is_flag=True, help="Write the value as it is, without a newline.")
@click.option("--at", type=REVISION, metavar="REVISION", help="Read as it was at a revision.")
@click.option(
    "--stale",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Let any node answer, with what it knew at most so long ago (0: however long).",
)
def get(key: str, raw: bool, at: int | None, stale: float | None) -> None:
    """Print the value of KEY.

    Text gets a newline. A binary value is shown escaped on a terminal, and written as it is
    elsewhere.
    """
    name = os.fsencode(key)
    item = call(lambda client: client.get(name, revision=at or 0, max_staleness=stale), _name(key))
    if item is None:
        raise _not_found(key, at)
    if settings().json:
        write_json(json_item(item))
    else:
        write_value(item.value, raw=raw)


@click.command(
    cls=Verb,
    examples="""
    kvorum delete greeting
    kvorum delete --prefix user/
    kvorum delete a --range-end c
    """,
)
@click.argument("key", required=False)
@click.option("--prefix", metavar="PREFIX", help="Delete every key that begins with this.")
@click.option("--range-end", metavar="KEY", help="Delete from KEY up to this one, which stays.")
def delete(key: str | None, prefix: str | None, range_end: str | None) -> None:
    """Delete KEY, or a range of keys.

    A large range goes in steps: after an error some keys may be gone, repeat it then.
    """
    if (key is None) == (prefix is None):
        raise click.UsageError("give either KEY or --prefix")
    if prefix is not None and range_end is not None:
        raise click.UsageError("--range-end goes with KEY, not with --prefix")
    if prefix == "":
        raise click.UsageError("an empty --prefix means every key: say --prefix with a character")
    if key is not None and range_end is None:
        _delete_one(key)
        return
    if prefix is not None:
        gone = call(lambda client: client.delete_range(prefix=os.fsencode(prefix)))
    else:
        assert key is not None, "either a key or a prefix"
        assert range_end is not None, "one key was handled above"
        start, end = os.fsencode(key), os.fsencode(range_end)
        gone = call(lambda client: client.delete_range(start, end))
    if settings().json:
        write_json({"deleted": gone.deleted, "revision": gone.revision})
    else:
        keys = "1 key" if gone.deleted == 1 else f"{gone.deleted} keys"
        write_line(f"deleted {keys}, revision {gone.revision}")


def _delete_one(key: str) -> None:
    done = call(lambda client: client.delete(os.fsencode(key)), _name(key))
    if settings().json:
        write_json({"deleted": int(done.deleted), "revision": done.revision})
    elif done.deleted:
        write_line(f"deleted, revision {done.revision}")
    if not done.deleted:
        raise _not_found(key, None)


@click.command(
    cls=Verb,
    examples="""
    kvorum scan --prefix user/ --limit 10
    kvorum scan --from a --to c --output json
    kvorum scan --prefix user/ --count
    """,
)
@click.option("--prefix", metavar="PREFIX", help="Only keys that begin with this.")
@click.option("--from", "start", metavar="KEY", help="Begin at this key. [the first]")
@click.option("--to", "end", metavar="KEY", help="End before this key. [after the last]")
@click.option("--limit", type=Number(1), metavar="N", help="At most so many items.")
@click.option("--reverse", is_flag=True, help="Last key first.")
@click.option("--keys-only", is_flag=True, help="Leave out the values.")
@click.option("--count", is_flag=True, help="Print only how many keys there are.")
@click.option("--at", type=REVISION, metavar="REVISION", help="Read as it was at a revision.")
def scan(
    prefix: str | None,
    start: str | None,
    end: str | None,
    limit: int | None,
    reverse: bool,
    keys_only: bool,
    count: bool,
    at: int | None,
) -> None:
    """List keys and values in order.

    One line each, with a tab between key and value. Newlines, tabs, backslashes and what is no text
    are escaped as in \\n, \\t, \\\\ and \\xff, so that an item is always one line. --output json
    gives the exact bytes.
    """
    if prefix is not None and (start is not None or end is not None):
        raise click.UsageError("give either --prefix or --from and --to")
    if end == "":
        raise click.UsageError("--to is empty; leave it out to reach the last key")
    stem, first, last = (None if key is None else os.fsencode(key) for key in (prefix, start, end))
    if count:
        if limit or reverse or keys_only or at:
            raise click.UsageError(
                "--count goes with --prefix, --from and --to only: it counts what is there now"
            )
        _print_count(call(lambda client: client.count(first, last, prefix=stem)))
        return

    async def print_items(client: AsyncClient) -> None:
        printer = _JsonItems(keys_only) if settings().json else _TextItems(keys_only)
        async for item in client.scan(
            first,
            last,
            prefix=stem,
            limit=limit or 0,
            reverse=reverse,
            keys_only=keys_only,
            revision=at or 0,
        ):
            printer.add(item)
        printer.end()

    call(print_items)


def _print_count(count: int) -> None:
    if settings().json:
        write_json({"count": count})
    else:
        write_line(str(count))


class _TextItems:
    """A line for each item, as it comes: a scan of any size needs no memory."""

    def __init__(self, keys_only: bool) -> None:
        self._keys_only = keys_only

    def add(self, item: Item) -> None:
        write_line(item_line(item, keys_only=self._keys_only))

    def end(self) -> None:
        sys.stdout.flush()


class _JsonItems:
    """One JSON object with all items, written as they come."""

    def __init__(self, keys_only: bool) -> None:
        self._keys_only = keys_only
        self._count = 0
        sys.stdout.write('{"items": [')

    def add(self, item: Item) -> None:
        import json

        separator = ",\n" if self._count else "\n"
        fields = json_item(item, keys_only=self._keys_only)
        sys.stdout.write(separator + json.dumps(fields, ensure_ascii=False))
        self._count += 1

    def end(self) -> None:
        sys.stdout.write(f'\n], "count": {self._count}}}\n' if self._count else '], "count": 0}\n')


def item_line(item: Item, *, keys_only: bool = False) -> str:
    """An item on one line: key, tab, value, both escaped."""
    return escape(item.key) if keys_only else f"{escape(item.key)}\t{escape(item.value)}"


@click.command(
    cls=Verb,
    examples="""
    kvorum cas greeting --expect hello --set bye
    kvorum cas job/17 --expect-absent --set taken
    kvorum cas config --expect-file old.toml --set-file new.toml
    """,
)
@_key_argument()
@click.option("--expect", metavar="VALUE", help="Only if KEY has this value.")
@click.option("--expect-file", metavar="PATH", help="Only if KEY has the value of this file.")
@click.option("--expect-absent", is_flag=True, help="Only if KEY does not exist.")
@click.option("--set", "value", metavar="VALUE", help="The new value.")
@click.option("--set-file", metavar="PATH", help="The file with the new value.")
def cas(
    key: str,
    expect: str | None,
    expect_file: str | None,
    expect_absent: bool,
    value: str | None,
    set_file: str | None,
) -> None:
    """Change KEY only if it is as expected.

    Compare and set, in one atomic step; exits with 3 when KEY is not as expected. One of the values
    may be '-': standard input.
    """
    if (expect, expect_file, value, set_file).count(STANDARD_INPUT) > 1:
        raise click.UsageError("standard input can serve as one of the values only")
    expected = read_value("--expect", expect, "--expect-file", expect_file)
    if (expected is None) != expect_absent:
        raise click.UsageError(
            "say once what to expect: --expect, --expect-file or --expect-absent"
        )
    content = read_value("--set", value, "--set-file", set_file)
    if content is None:
        raise click.UsageError("the new value is missing: give --set or --set-file")
    name = os.fsencode(key)
    done = call(lambda client: _compare_and_set(client, name, content, expected), _name(key))
    _print_revision(done)


async def _compare_and_set(
    client: AsyncClient, key: bytes, value: bytes, expected: bytes | None
) -> PutResult:
    from kvorum import Conflict

    try:
        return await client.compare_and_set(key, value, expected=expected)
    except Conflict as conflict:
        current = conflict.current
        if current is None:
            state = "does not exist"
        elif expected is None:
            state = f"exists, with {_shorten(current.value)} at revision {current.mod_revision}"
        else:
            state = f"has {_shorten(current.value)} at revision {current.mod_revision}"
        line = f"conflict: {_name(os.fsdecode(key))} {state}; nothing was changed"
        raise Stop(Exit.CONFLICT, line) from None


@click.command(
    cls=Verb,
    examples="""
    kvorum incr visits
    kvorum incr stock --by -3 --min 0
    """,
)
@_key_argument()
@click.option("--by", type=INT64, default=1, show_default=True, metavar="N", help="What to add.")
@click.option("--min", "minimum", type=INT64, metavar="N", help="Refuse a smaller sum.")
@click.option("--max", "maximum", type=INT64, metavar="N", help="Refuse a larger sum.")
def incr(key: str, by: int, minimum: int | None, maximum: int | None) -> None:
    """Add to the number under KEY and print the sum.

    An absent key counts as 0. A sum out of bounds, or a value that is no decimal 64-bit integer, is
    refused with exit code 5.
    """
    total = call(
        lambda client: client.increment(os.fsencode(key), by, minimum=minimum, maximum=maximum),
        _name(key),
    )
    if settings().json:
        write_json({"value": total})
    else:
        write_line(str(total))


# --- Common parts ---


def read_value(argument: str, value: str | None, option: str, file: str | None) -> bytes | None:
    """The bytes of a value given as an argument or a file; None when neither was given."""
    if value is not None and file is not None:
        raise click.UsageError(f"give either {argument} or {option}, not both")
    if file is not None:
        return read_file(file)
    if value == STANDARD_INPUT:
        return read_file(STANDARD_INPUT)
    return None if value is None else os.fsencode(value)


def read_file(path: str) -> bytes:
    """The bytes of a file, or of standard input when it is ``-``."""
    if path == STANDARD_INPUT:
        if sys.stdin.isatty():
            write_note("reading from the terminal; end with Ctrl-D")
        return sys.stdin.buffer.read()
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Stop(Exit.USAGE, f"cannot read {path}: {error.strerror}") from None


def _print_revision(done: PutResult) -> None:
    if settings().json:
        write_json({"revision": done.revision})
    else:
        write_line(f"revision {done.revision}")


def _not_found(key: str, at: int | None) -> Stop:
    when = f" at revision {at}" if at else ""
    return Stop(Exit.NOT_FOUND, f"key {_name(key)} not found{when}")


def _name(key: str) -> str:
    name = os.fsencode(key)
    shown = escape(name)
    return f"'{shown}'" if len(shown) <= NAME_LENGTH_MAX else f"(a key of {len(name)} bytes)"


def _shorten(value: bytes) -> str:
    shown = escape(value)
    return f"'{shown}'" if len(shown) <= NAME_LENGTH_MAX else f"a value of {len(value)} bytes"
