r"""Keys and values, which are bytes, for people and for programs.

Text goes out as it is. What is not text (invalid UTF-8, control characters) never reaches a
terminal unescaped: :func:`escape` is reversible, and ``"..."`` in a txn file reads what it writes.
For programs there is JSON, with base64 and an ``..._encoding`` field where bytes are no UTF-8, and
``--raw``.

Nothing here decides what is printed when; the verbs do.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvorum import Item

SHOWN_BYTES_MAX = 1024
"""How much of a binary value is worth showing on a terminal."""
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def is_text(value: bytes) -> bool:
    r"""Whether a terminal can show a value as it is: UTF-8 without control characters.

    >>> is_text("Größe\n".encode()), is_text(b"\xff"), is_text(b"\x1b[2J")
    (True, False, False)
    """
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\n\r\t" for character in text)


def escape(value: bytes) -> str:
    r"""A value on one line, without loss: ``\n``, ``\t``, ``\r``, ``\\`` and ``\xNN``.

    >>> print(escape(b"a\nb\\\x00\xff"), escape("Größe".encode()))
    a\nb\\\x00\xff Größe
    """
    text = value.decode(errors="surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_ESCAPES.get(character) or _escape_character(character) for character in text)


def _escape_character(character: str) -> str:
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))


def json_field(name: str, value: bytes) -> dict[str, str]:
    r"""A field of a JSON object; one that is no UTF-8 is base64 and says so.

    >>> json_field("value", b"hello"), json_field("value", b"\xff")
    ({'value': 'hello'}, {'value': '/w==', 'value_encoding': 'base64'})
    """
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {name: base64.b64encode(value).decode(), f"{name}_encoding": "base64"}


def json_item(item: Item, *, keys_only: bool = False) -> dict[str, object]:
    """An item as a JSON object; without its value when only keys were asked for."""
    return {
        **json_field("key", item.key),
        **({} if keys_only else json_field("value", item.value)),
        "create_revision": item.create_revision,
        "mod_revision": item.mod_revision,
        "version": item.version,
        "lease": item.lease,
    }


def write_json(value: object) -> None:
    """One JSON object on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def write_line(line: str) -> None:
    """One line of text."""
    sys.stdout.write(line + "\n")


def write_note(line: str) -> None:
    """One line on standard error, for people."""
    sys.stderr.write(f"kvorum: {line}\n")


def write_value(value: bytes, *, raw: bool) -> None:
    """A value alone: as it is when ``raw`` or piped away, with a newline when it is text.

    A terminal never gets control characters: it sees the escaped form and how to get the real one.
    """
    if not raw and sys.stdout.isatty() and not is_text(value):
        write_line(escape(value[:SHOWN_BYTES_MAX]))
        part = f"the first {SHOWN_BYTES_MAX} of " if len(value) > SHOWN_BYTES_MAX else ""
        write_note(
            f"the value is binary: {part}{len(value)} bytes, escaped; --raw writes it as it is"
        )
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(value)
    if not raw and is_text(value):
        sys.stdout.buffer.write(b"\n")
