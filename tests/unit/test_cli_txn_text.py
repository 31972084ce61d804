"""The text of a txn: what it can say, and what is said about mistakes in it."""

import pytest

from kvorum import (
    AsyncClient,
    Compare,
    Delete,
    DeleteRange,
    Get,
    Increment,
    Operation,
    Put,
    Scan,
    Txn,
)
from kvorum_cli.txn_text import TxnSyntaxError, parse


def operation(line: str) -> Operation:
    """What one line under 'then' means."""
    (only,) = parse(f"then\n  {line}").then
    return only


def condition(line: str) -> Compare:
    """What one line under 'when' means."""
    (only,) = parse(f"when\n  {line}\nthen\n  get x").when
    return only


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("put a 1", Put(b"a", b"1")),
        ('put "a b" "say \\"hi\\""', Put(b"a b", b'say "hi"')),
        (r'put a "\x00\xff\n\\"', Put(b"a", b"\x00\xff\n\\")),
        ('put a ""', Put(b"a", b"")),
        ("put größe 1", Put("größe".encode(), b"1")),
        ("put a 1 # comment", Put(b"a", b"1")),
        ("put a b#c", Put(b"a", b"b#c")),
        ("get a", Get(b"a")),
        ("delete a", Delete(b"a")),
        ('delete "prefix"', Delete(b"prefix")),
        ("delete prefix a/", DeleteRange(prefix=b"a/")),
        ("delete from a to c", DeleteRange(start=b"a", end=b"c")),
        ("scan from a", Scan(start=b"a")),
        ("scan prefix a/ limit 3 reverse keys-only count",
         Scan(prefix=b"a/", limit=3, reverse=True, keys_only=True, count_only=True)),
        ("incr a", Increment(b"a")),
        ("incr a by -2 min -5 max +5", Increment(b"a", -2, -5, 5)),
        ("incr a max 5", Increment(b"a", 1, None, 5)),
    ],
)  # fmt: skip
def test_an_operation(line: str, meaning: Operation) -> None:
    assert operation(line) == meaning


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("value a = 1", AsyncClient.value("a") == "1"),
        ('value a != ""', AsyncClient.value("a") != ""),
        ("version a < 3", AsyncClient.version("a") < 3),
        ("create_revision a > 3", AsyncClient.create_revision("a") > 3),
        ("mod_revision a = 7", AsyncClient.mod_revision("a") == 7),
        ("absent a", AsyncClient.version("a") == 0),
        ("exists a", AsyncClient.version("a") > 0),
    ],
)
def test_a_condition(line: str, meaning: Compare) -> None:
    assert condition(line).message == meaning.message


def test_a_whole_text_with_a_txn_in_a_txn() -> None:
    txn = parse(
        """
        # a comment, then nothing

        when
          absent a
        then
          put a 1
          txn
            when
              exists b
            then
              delete b
          end
          get a
        else
          get b
        """
    )
    first, nested, last = txn.then
    assert (first, last) == (Put(b"a", b"1"), Get(b"a"))
    assert isinstance(nested, Txn)
    assert nested.then == (Delete(b"b"),)
    assert txn.otherwise == (Get(b"b"),)


def test_lines_may_end_as_on_windows_and_words_may_be_headings_when_quoted() -> None:
    assert parse('then\r\n  get "then"\r\n').then == (Get(b"then"),)


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("", 1, "the txn does nothing: put operations under 'then'"),
        ("when\n absent a", 1, "the txn does nothing: put operations under 'then'"),
        ("put a 1", 1, "'put' stands before the first heading; begin with 'when' or 'then'"),
        ("wehn\n", 1, "'wehn' stands before the first heading; begin with 'when' or 'then'; "
         "did you mean 'when'?"),
        ("then\n\n putt a 1", 3, "'putt' is no operation; there are put, get, delete, scan, incr, "
         "txn; did you mean 'put'?"),
        ("when\n valeu a = 1", 2, "'valeu' is no condition; there are value, version, "
         "create_revision, mod_revision, exists and absent; did you mean 'value'?"),
        ("when\n value a == 1", 2, "after the key there must be = != < >; write 'value KEY = ...'"),
        ("when\n version a = x", 2, "the number is 'x'; it must be an integer"),
        ("when\n value a", 2, "the relation is missing at the end of the line"),
        ("then\n put a", 2, "the value is missing at the end of the line"),
        ("then\n put a b c", 2, "'c' is not expected here; quote a key or value with spaces"),
        ("then\n delete prefix", 2, "the prefix is missing at the end of the line"),
        ("then\n scan a", 2, "after scan there must be 'prefix ...' or 'from ... to ...'"),
        ("then\n scan prefix a limit -1", 2, "the limit is -1; it must be from 1 to 4294967295"),
        ("then\n incr a by one", 2, "the number is 'one'; it must be an integer"),
        ('then\n put a "b', 2, "quotes do not match at '\"b'; they go around a whole word, and "
         '\\" is a quote in it'),
        ('then\n put a b"c"', 2, "quotes do not match at 'b\"c\"'; they go around a whole word, "
         'and \\" is a quote in it'),
        ('then\n put a "\\q"', 2, '\\q is no escape; there are \\n \\t \\r \\" \\\\ and \\xNN'),
        ("then\nthen", 2, "'then' stands twice in this txn"),
        ("then\n get a\nwhen", 3, "'when' comes before 'then' and 'else'"),
        ("then\n get a\nend", 3, "'end' closes a 'txn' line, and none is open"),
        ("then\n txn\n then\n  get a", 4, "the txn of line 2 has no 'end'"),
        ("then\n txn\n end", 2, "the txn does nothing: put operations under 'then'"),
        ("when\n exists a\n put a 1", 3,
         "'put' is no condition; the line 'then' must stand before it"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(text: str, line: int, complaint: str) -> None:
    with pytest.raises(TxnSyntaxError) as raised:
        parse(text)
    assert (raised.value.line, str(raised.value)) == (line, complaint)
