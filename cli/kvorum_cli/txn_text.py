r"""The text that ``kvorum txn`` reads, turned into a Txn of the SDK.

One statement a line, under three headings, each of which may be missing::

    when                                  # all of these hold ...
      value greeting = hello
      version visits > 3
      absent lock/nightly
    then                                  # ... then these, else those, in one atomic step
      put greeting bye
      incr visits by 2 max 100
      delete prefix session/
    else
      get greeting
      scan prefix session/ limit 10 keys-only

Words are separated by spaces. A word in double quotes may hold anything: ``\"``, ``\\``, ``\n``,
``\t``, ``\r`` and ``\xNN`` (one byte) are escapes in it, and it is never taken for a keyword, so a
key named ``prefix`` is written ``"prefix"``. ``#`` at the start of a word begins a comment. A
``txn`` line in a branch begins a txn of its own, which ``end`` closes.

The grammar is small on purpose, with one way to say a thing; compares of ranges are left to the
SDK. Every mistake is a :class:`TxnSyntaxError` with its line; nothing is sent before the whole text
is read.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from kvorum import (
    AsyncClient,
    Compare,
    Delete,
    DeleteRange,
    Field,
    Get,
    Increment,
    Operation,
    Put,
    Scan,
    Txn,
)

_WORD = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"(?=\s|$)|(?P<bare>[^\s"]+)(?=\s|$)')
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)")
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_RELATIONS: Final[dict[str, Callable[[Field, bytes | int], object]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_FIELDS: Final[dict[str, Callable[[bytes], Field]]] = {
    "value": AsyncClient.value,
    "version": AsyncClient.version,
    "create_revision": AsyncClient.create_revision,
    "mod_revision": AsyncClient.mod_revision,
}
_HEADINGS: Final = ("when", "then", "else")
_OPERATIONS: Final = ("put", "get", "delete", "scan", "incr", "txn")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


class TxnSyntaxError(ValueError):
    """The text is not a txn; ``line`` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a line. Only a bare one can be a keyword."""

    text: str
    quoted: bool

    @property
    def keyword(self) -> str:
        """The word as a keyword; empty when it was quoted."""
        return "" if self.quoted else self.text

    @property
    def data(self) -> bytes:
        """The word as a key or value."""
        return self.text.encode(errors="surrogateescape")


@dataclass(slots=True)
class Statement:
    """A line: its number and the words that were not taken yet."""

    line: int
    words: list[Word]

    def error(self, message: str) -> TxnSyntaxError:
        """A mistake in this line."""
        return TxnSyntaxError(self.line, message)

    def take(self, what: str) -> Word:
        """The next word; ``what`` names it when it is missing."""
        if not self.words:
            raise self.error(f"{what} is missing at the end of the line")
        return self.words.pop(0)

    def take_keyword(self, keyword: str) -> bool:
        """Whether the next word is this keyword; then it is taken."""
        if self.words and self.words[0].keyword == keyword:
            self.words.pop(0)
            return True
        return False

    def take_integer(self, what: str) -> int:
        """The next word as a number."""
        word = self.take(what)
        if not _INTEGER.fullmatch(word.keyword):
            raise self.error(f"{what} is {word.text!r}; it must be an integer")
        return int(word.text)

    def end(self) -> None:
        """Refuses words that are left."""
        if self.words:
            raise self.error(
                f"{self.words[0].text!r} is not expected here; quote a key or value with spaces"
            )


@dataclass(slots=True)
class _Draft:
    """A txn while its lines are read."""

    line: int
    heading: str = ""
    seen: list[str] = field(default_factory=list)
    when: list[Compare] = field(default_factory=list)
    then: list[Operation] = field(default_factory=list)
    otherwise: list[Operation] = field(default_factory=list)

    def finish(self) -> Txn:
        if not (self.then or self.otherwise):
            raise TxnSyntaxError(self.line, "the txn does nothing: put operations under 'then'")
        return Txn(when=tuple(self.when), then=tuple(self.then), otherwise=tuple(self.otherwise))


def parse(text: str) -> Txn:
    """The Txn that a text describes. Raises TxnSyntaxError.

    >>> txn = parse('''
    ... when
    ...   value greeting = "hello world"
    ... then
    ...   put greeting bye
    ... else
    ...   get greeting
    ... ''')
    >>> txn.then, txn.otherwise
    ((Put(key=b'greeting', value=b'bye', previous=False),), (Get(key=b'greeting'),))
    """
    open_txns = [_Draft(line=1)]
    last = 1
    for statement in _statements(text):
        last = statement.line
        draft = open_txns[-1]
        keyword = statement.words[0].keyword
        if keyword == "end" and len(statement.words) == 1:
            if len(open_txns) == 1:
                raise statement.error("'end' closes a 'txn' line, and none is open")
            nested = open_txns.pop().finish()
            _branch(open_txns[-1], statement).append(nested)
        elif keyword in _HEADINGS and len(statement.words) == 1:
            _begin_heading(draft, keyword, statement)
        elif draft.heading == "when":
            draft.when.append(_condition(statement))
        elif keyword == "txn":
            _branch(draft, statement)
            statement.words.pop(0)
            statement.end()
            open_txns.append(_Draft(line=statement.line))
        else:
            _branch(draft, statement).append(_operation(statement))
    if len(open_txns) > 1:
        raise TxnSyntaxError(last, f"the txn of line {open_txns[-1].line} has no 'end'")
    return open_txns[0].finish()


# --- Lines and words ---


def _statements(text: str) -> Iterator[Statement]:
    for number, line in enumerate(text.split("\n"), 1):
        words = list(_words(number, line))
        if words:
            yield Statement(number, words)


def _words(number: int, line: str) -> Iterator[Word]:
    position = 0
    while True:
        while position < len(line) and line[position].isspace():
            position += 1
        if position == len(line) or line[position] == "#":
            return
        match = _WORD.match(line, position)
        if match is None:
            raise TxnSyntaxError(
                number,
                f"quotes do not match at {line[position : position + 20]!r}; "
                'they go around a whole word, and \\" is a quote in it',
            )
        quoted = match["quoted"]
        if quoted is None:
            yield Word(match["bare"], quoted=False)
        else:
            yield Word(_unescape(number, quoted), quoted=True)
        position = match.end()


def _unescape(number: int, text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        escape = match[1]
        if len(escape) == 3:
            return bytes((int(escape[1:], 16),)).decode(errors="surrogateescape")
        if escape not in _ESCAPED:
            raise TxnSyntaxError(
                number, f'\\{escape} is no escape; there are \\n \\t \\r \\" \\\\ and \\xNN'
            )
        return _ESCAPED[escape]

    return _ESCAPE.sub(replace, text)


def _suggestion(word: str, candidates: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


# --- Statements ---


def _begin_heading(draft: _Draft, heading: str, statement: Statement) -> None:
    if heading in draft.seen:
        raise statement.error(f"{heading!r} stands twice in this txn")
    if heading == "when" and draft.seen:
        raise statement.error("'when' comes before 'then' and 'else'")
    draft.seen.append(heading)
    draft.heading = heading


def _branch(draft: _Draft, statement: Statement) -> list[Operation]:
    match draft.heading:
        case "then":
            return draft.then
        case "else":
            return draft.otherwise
        case _:
            word = statement.words[0].text if statement.words else "end"
            raise statement.error(
                f"{word!r} stands before the first heading; begin with 'when' or 'then'"
                + _suggestion(word, _HEADINGS)
            )


def _condition(statement: Statement) -> Compare:
    name = statement.take("the condition").text
    if name in ("exists", "absent"):
        version = AsyncClient.version(statement.take("the key").data)
        statement.end()
        return version == 0 if name == "absent" else version > 0
    if name in _OPERATIONS:
        raise statement.error(f"{name!r} is no condition; the line 'then' must stand before it")
    if name not in _FIELDS:
        candidates = (*_FIELDS, "exists", "absent", *_HEADINGS)
        raise statement.error(
            f"{name!r} is no condition; there are {', '.join(_FIELDS)}, exists and absent"
            + _suggestion(name, candidates)
        )
    key = statement.take("the key").data
    relation = statement.take("the relation").keyword
    if relation not in _RELATIONS:
        raise statement.error(
            f"after the key there must be {' '.join(_RELATIONS)}; write '{name} KEY = ...'"
        )
    operand = (
        statement.take("the value").data
        if name == "value"
        else statement.take_integer("the number")
    )
    statement.end()
    compare = _RELATIONS[relation](_FIELDS[name](key), operand)
    assert isinstance(compare, Compare), "comparing a field makes a condition"
    return compare


def _operation(statement: Statement) -> Operation:
    name = statement.take("the operation").text
    operation: Operation
    match name:
        case "put":
            operation = Put(statement.take("the key").data, statement.take("the value").data)
        case "get":
            operation = Get(statement.take("the key").data)
        case "delete":
            operation = _delete(statement)
        case "scan":
            operation = _scan(statement)
        case "incr":
            operation = _increment(statement)
        case _:
            candidates = (*_OPERATIONS, *_HEADINGS, "end")
            raise statement.error(
                f"{name!r} is no operation; there are {', '.join(_OPERATIONS)}"
                + _suggestion(name, candidates)
            )
    statement.end()
    return operation


def _range(statement: Statement) -> tuple[bytes | None, bytes | None, bytes | None] | None:
    """(start, end, prefix), or None when the next word begins no range."""
    if statement.take_keyword("prefix"):
        return None, None, statement.take("the prefix").data
    if statement.take_keyword("from"):
        start = statement.take("the first key").data
        end = (
            statement.take("the key after the last").data if statement.take_keyword("to") else None
        )
        return start, end, None
    return None


def _delete(statement: Statement) -> Operation:
    bounds = _range(statement)
    if bounds is None:
        return Delete(statement.take("the key").data)
    start, end, prefix = bounds
    return DeleteRange(start=start, end=end, prefix=prefix)


def _scan(statement: Statement) -> Operation:
    bounds = _range(statement)
    if bounds is None:
        raise statement.error("after scan there must be 'prefix ...' or 'from ... to ...'")
    start, end, prefix = bounds
    limit = statement.take_integer("the limit") if statement.take_keyword("limit") else 0
    if not 0 <= limit < 1 << 32:
        raise statement.error(f"the limit is {limit}; it must be from 1 to {(1 << 32) - 1}")
    return Scan(
        start=start,
        end=end,
        prefix=prefix,
        limit=limit,
        reverse=statement.take_keyword("reverse"),
        keys_only=statement.take_keyword("keys-only"),
        count_only=statement.take_keyword("count"),
    )


def _increment(statement: Statement) -> Operation:
    key = statement.take("the key").data
    by = statement.take_integer("the number") if statement.take_keyword("by") else 1
    low = statement.take_integer("the minimum") if statement.take_keyword("min") else None
    high = statement.take_integer("the maximum") if statement.take_keyword("max") else None
    return Increment(key, by, low, high)
